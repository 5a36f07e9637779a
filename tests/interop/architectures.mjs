// Every architecture that llama.cpp computes too: a small random checkpoint, converted, gives the same next-token probabilities there.
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import path from "node:path";
import {suite, test} from "node:test";
import {softmax, withModel} from "./support/llama_cpp.mjs";
import {program, shoehorn, tempDir} from "./support/shoehorn.mjs";

const build = path.dirname(program);
const dir = tempDir();

const presets = {"tiny": "llama", "tiny-gemma": "gemma"};

const nTokens = 64, nVocab = 1024;
const ids = Array.from({length: nTokens}, (_, i) => (i * 389 + 17) % nVocab);

suite("architectures", () => {
    for (const [preset, architecture] of Object.entries(presets)) {
        test(`${preset} is llama.cpp's ${architecture}, with the same probabilities`, async () => {
            const checkpoint = path.join(dir, preset), file = `${checkpoint}.gguf`;
            execFileSync(path.join(build, "make_checkpoint"), ["--like", preset, "-o", checkpoint], {stdio: ["ignore", "ignore", "pipe"]});
            shoehorn("convert", checkpoint, file, "--type", "f32");
            const ours = JSON.parse(execFileSync(path.join(build, "tests", "print_logits"), [file, ...ids.map(String)], {encoding: "utf8", maxBuffer: 1 << 28}));
            await withModel(file, async model => {
                assert.equal(model.architecture, architecture);
                const theirs = await model.logits(ids, 0);
                let worst = 0, largest = 0;
                theirs.forEach((row, t) => {
                    const a = softmax(row), b = softmax(new Map(ours[t].map((logit, id) => [id, logit])));
                    for (const [id, p] of a) {
                        worst = Math.max(worst, Math.abs(p - b.get(id)));
                        largest = Math.max(largest, p);
                    }
                });
                assert.ok(worst < 1e-3, `probabilities differ by ${worst}`);
                assert.ok(largest > 0.005, `nothing is likelier than ${largest}: that tells nothing apart`);
            });
        });
    }
});
