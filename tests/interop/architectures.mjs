// Every architecture that llama.cpp computes too: a small random checkpoint, converted, gives the same next-token probabilities there.
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import path from "node:path";
import {suite, test} from "node:test";
import {softmax, withModel} from "./support/llama_cpp.mjs";
import {program, shoehorn, tempDir} from "./support/shoehorn.mjs";

const build = path.dirname(program);
const dir = tempDir();

const presets = {"tiny": "llama", "tiny-phi3": "phi3", "tiny-gemma": "gemma", "tiny-gemma2": "gemma2", "tiny-gemma3": "gemma3",
    "tiny-mixtral": "llama", "tiny-qwen2moe": "qwen2moe", "tiny-qwen3moe": "qwen3moe", "tiny-olmo2": "olmo2", "tiny-smollm3": "smollm3", "tiny-gptneox": "gptneox", "tiny-mpt": "mpt", "tiny-bitnet": "bitnet"};

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
                let worst = 0, worstLogit = 0, size = 0;
                theirs.forEach((row, t) => {
                    const a = softmax(row), b = softmax(new Map(ours[t].map((logit, id) => [id, logit])));
                    for (const [id, p] of a) {
                        worst = Math.max(worst, Math.abs(p - b.get(id)));
                        worstLogit = Math.max(worstLogit, Math.abs(row.get(id) - ours[t][id]));
                        size = Math.max(size, Math.abs(row.get(id)));
                    }
                });
                assert.ok(worst < 1e-3, `probabilities differ by ${worst}`);
                // Random weights make no token likely: what tells models apart is in the logits.
                assert.ok(worstLogit < 0.005 * size, `logits differ by ${worstLogit}, of up to ${size}`);
            });
        });
    }
});
