// llama.cpp must load every file that Shoehorn writes, and compute with it what Shoehorn computes.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import {before, suite, test} from "node:test";
import {readGgufFileInfo} from "node-llama-cpp";
import {best, softmax, withModel} from "./support/llama_cpp.mjs";
import {writeJagged} from "./support/safetensors.mjs";
import {root, shared, shoehorn, shoehornJson, tempDir} from "./support/shoehorn.mjs";

const fable = path.join(root, "models/fable-10m");
const evalText = path.join(fable, "eval.txt");
const dir = tempDir();
const gguf = name => path.join(dir, `${name}.gguf`);

const prompts = [
    "Once upon a time",
    "The captain looked at the sea, and",
    "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
];

// How far below llama.cpp's best logit a greedily chosen token may lie, and how far apart the perplexities may be
// (relative). Both engines compute F16 files in nearly the same way; with quantized files llama.cpp also rounds the
// activations to 8 bits.
const tolerances = {
    F16: {logit: 0.02, perplexity: 0.0005},
    Q8_0: {logit: 0.1, perplexity: 0.002},
    Q4_K_M: {logit: 0.2, perplexity: 0.006},
    Q2_K: {logit: 0.3, perplexity: 0.006},
    IQ3_M: {logit: 0.3, perplexity: 0.006},
    IQ2_M: {logit: 0.3, perplexity: 0.006},
    IQ1_M: {logit: 0.3, perplexity: 0.006}
};

/** Every greedy token of `shoehorn run` is, to llama.cpp, the best one or as good as it. */
async function assertSameGreedyText(model, file, tolerance) {
    const nPredict = 64;
    for (const prompt of prompts) {
        const run = shoehornJson("run", "-m", file, "-p", prompt, "-n", `${nPredict}`, "--temp", "0", "-no-cnv", "-t", "1");
        assert.deepEqual(run.prompt_ids, model.tokenizePrompt(prompt, true));
        assert.ok(run.ids.length > 0, "nothing was generated");
        const rows = await model.logits([...run.prompt_ids, ...run.ids], run.prompt_ids.length - 1);
        run.ids.forEach((id, step) => {
            const [expected, top] = best(rows[step]);
            const behind = top - rows[step].get(id);
            assert.ok(behind < tolerance,
                `step ${step} after ${JSON.stringify(prompt)}: token ${id}, but llama.cpp prefers ${expected} by ${behind}`);
        });
        if (run.ids.length < nPredict && !model.isEog(run.ids.at(-1))) {
            assert.ok(model.isEog(best(rows[run.ids.length])[0]), `stopped after ${run.ids.length} tokens`);
        }
    }
}

async function assertSamePerplexity(model, file, tolerance) {
    const nChunks = 4;
    const ours = shoehornJson("perplexity", "-m", file, "-f", evalText, "-c", "512", "--chunks", `${nChunks}`).ppl;
    const theirs = await model.perplexity(fs.readFileSync(evalText, "utf8"), nChunks);
    assert.ok(Math.abs(ours / theirs - 1) < tolerance, `perplexity ${ours}, llama.cpp's ${theirs}`);
}

function testTypes(architecture, names) {
    for (const [type, file] of Object.entries(names)) {
        test(`llama.cpp loads the ${type} file as ${architecture} and computes the same`, async () => {
            await withModel(file, async model => {
                assert.equal(model.architecture, architecture);
                await assertSameGreedyText(model, file, tolerances[type].logit);
                await assertSamePerplexity(model, file, tolerances[type].perplexity);
            });
        });
    }
}

suite("a uniform model", () => {
    const files = {F16: gguf("f16"), Q8_0: gguf("q8_0"), Q4_K_M: gguf("q4_k_m"), Q2_K: gguf("q2_k")};
    before(() => {
        shoehorn("convert", fable, files.F16, "--type", "f16");
        for (const type of ["Q8_0", "Q4_K_M", "Q2_K"]) shoehorn("quantize", files.F16, files[type], type);
    });
    testTypes("llama", files);
});

suite("types below Q3_K", () => {
    const files = {IQ3_M: gguf("iq3_m"), IQ2_M: gguf("iq2_m"), IQ1_M: gguf("iq1_m")};
    before(() => {
        for (const type of Object.keys(files)) shoehorn("quantize", fable, files[type], type);
    });
    testTypes("llama", files);
});

suite("a model quantized by second moments", () => {
    const files = {Q4_K_M: gguf("gptq-q4_k_m"), Q2_K: gguf("gptq-q2_k")};
    before(() => {
        for (const type of Object.keys(files)) {
            shoehorn("quantize", fable, files[type], type, "--method", "gptq", "--calib", path.join(fable, "calib.txt"), "--samples", "16", "--seq-len", "256");
        }
    });
    testTypes("llama", files);
});

suite("columns scaled, and types chosen tensor by tensor", () => {
    const files = {Q4_K_M: gguf("awq-q4_k_m"), Q2_K: gguf("chosen")};
    const learn = ["--calib", path.join(fable, "calib.txt"), "--samples", "8", "--seq-len", "256"];
    before(() => {
        shoehorn("quantize", fable, files.Q4_K_M, "Q4_K_M", "--method", "awq", ...learn);
        shoehorn("quantize", fable, files.Q2_K, "auto", "--method", "gptq", "--target-size", "4100000", "--rounds", "1", ...learn);
        assert.ok(fs.statSync(files.Q2_K).size <= 4100000);
    });
    testTypes("llama", files);
});

suite("a rotated model", () => {
    const files = {F16: gguf("rotated-f16"), Q4_K_M: gguf("rotated-q4_k_m")};
    const online = gguf("rotated-r4");
    before(() => {
        const checkpoint = path.join(dir, "rotated");
        shoehorn("rotate", fable, "-o", checkpoint, "--dtype", "f32");
        shoehorn("convert", checkpoint, files.F16, "--type", "f16");
        shoehorn("quantize", files.F16, files.Q4_K_M, "Q4_K_M");
        shoehorn("rotate", fable, "-o", `${checkpoint}-r4`, "--rotations", "r1,r2,r4", "--dtype", "f32");
        shoehorn("convert", `${checkpoint}-r4`, online, "--type", "f16");
    });
    testTypes("llama", files);
    test("llama.cpp refuses a file whose MLPs need a transform that it does not know", async () => {
        await assert.rejects(withModel(online, async () => {}));
        const run = shoehornJson("run", "-m", online, "-p", prompts[0], "-n", "8", "--temp", "0", "-no-cnv");
        const plain = shoehornJson("run", "-m", files.F16, "-p", prompts[0], "-n", "8", "--temp", "0", "-no-cnv");
        assert.deepEqual(run.ids, plain.ids);
    });
});

suite("a jagged model", () => {
    const files = {F16: gguf("jagged-f16"), Q4_K_M: gguf("jagged-q4_k_m")};
    before(() => {
        const checkpoint = path.join(dir, "jagged");
        writeJagged(fable, checkpoint, {
            widths: [1024, 768, 512, 1024, 256, 768, 1024, 512],
            kvHeads: [2, 2, 1, 2, 2, 1, 2, 2]
        });
        shoehorn("convert", checkpoint, files.F16, "--type", "f16");
        shoehorn("quantize", checkpoint, files.Q4_K_M, "Q4_K_M");
    });
    testTypes("deci", files);
});

suite("an importance matrix", () => {
    const matrix = gguf("imatrix"), files = {Q4_K_M: gguf("q4_k_m-imatrix"), Q2_K: gguf("q2_k-imatrix")};
    before(() => {
        shoehorn("convert", fable, gguf("imatrix-f16"), "--type", "f16");
        shoehorn("imatrix", "-m", gguf("imatrix-f16"), "-f", path.join(fable, "calib.txt"), "-o", matrix, "--chunks", "20");
        for (const type of ["Q4_K_M", "Q2_K"]) shoehorn("quantize", gguf("imatrix-f16"), files[type], type, "--imatrix", matrix);
    });
    testTypes("llama", files);

    // Its reader (common/imatrix-loader.cpp) is not within reach of Node; this is what it looks for.
    test("the file has the keys and tensors that llama.cpp's reader asks for", async () => {
        const {metadata, fullTensorInfo} = await readGgufFileInfo(matrix, {readTensorInfo: true, sourceType: "filesystem", logWarnings: false});
        assert.equal(metadata.general.type, "imatrix");
        assert.deepEqual(metadata.imatrix, {datasets: [path.join(fable, "calib.txt")], chunk_count: 20, chunk_size: 512});
        const tensors = new Map(fullTensorInfo.map(({name, dimensions, ggmlType}) => [name, {dimensions: dimensions.map(Number), ggmlType}]));
        assert.equal(tensors.size, 2 * 7 * 8);
        for (const [name, nCols] of [["attn_q", 256], ["attn_output", 256], ["ffn_up", 256], ["ffn_down", 1024]]) {
            assert.deepEqual(tensors.get(`blk.7.${name}.weight.in_sum2`), {dimensions: [nCols, 1], ggmlType: 0});
            assert.deepEqual(tensors.get(`blk.7.${name}.weight.counts`), {dimensions: [1, 1], ggmlType: 0});
        }
    });
});

suite("a pruned and healed model", () => {
    const at = name => path.join(dir, name);
    before(() => {
        shoehorn("prune", fable, "-o", at("pruned"), "--method", "magnitude", "--target", "mlp,attention", "--layers", "2-5", "--ratio", "0.5", "--no-check");
        shoehorn("heal", at("pruned"), "-o", at("healed"), "--data", path.join(fable, "calib.txt"), "--teacher", fable, "--max-steps", "6",
            "--batch", "4", "--cutoff", "64", "--validation", "0", "--warmup", "1", "--lr", "0.01", "--dtype", "f32", "--compute-dtype", "f32");
        shoehorn("convert", at("pruned"), gguf("pruned"), "--type", "f16");
        shoehorn("convert", at("healed"), gguf("healed"), "--type", "f32");
    });

    test("llama.cpp loads it as deci and computes the same", async () => {
        await withModel(gguf("pruned"), async model => {
            assert.equal(model.architecture, "deci");
            await assertSamePerplexity(model, gguf("pruned"), tolerances.F16.perplexity);
        });
    });

    test("the adapter over the pruned model gives the merged model's probabilities", async () => {
        const ids = await withModel(gguf("pruned"), model => model.tokenizePrompt(fs.readFileSync(evalText, "utf8").slice(0, 600), false));
        const probabilities = (file, options) => withModel(file, async model => (await model.logits(ids, 0)).map(softmax), options);
        const plain = await probabilities(gguf("pruned"));
        const adapted = await probabilities(gguf("pruned"), {adapter: at("healed/adapter/adapter.gguf")});
        const merged = await probabilities(gguf("healed"));
        const distance = (a, b) => Math.max(...a.map((row, i) => Math.max(...[...row].map(([id, p]) => Math.abs(p - b[i].get(id))))));
        assert.ok(distance(plain, merged) > 0.02, "healing changed nothing");
        assert.ok(distance(adapted, merged) < 1e-3, `probabilities differ by ${distance(adapted, merged)}`);
        // So does our own engine.
        const story = (file, ...options) => shoehornJson("run", "-m", gguf(file), "-p", "Once upon a time", "-n", "12", "--temp", "0", ...options).ids;
        assert.deepEqual(story("pruned", "--lora", at("healed/adapter/adapter.gguf")), story("healed"));
    });
});

suite("tokenization", () => {
    const awkward = [
        " ", "  ", "\n", "\r\n", "\t\t", " \n \n", "a", " a", "a ", "\u00a0\u2003x", "\0", "a\0b", "\ufeffx", "\u007f",
        "don't DON'T I'LL we'Ve '\u017f 'S", "1234567890 12 123 1234 \u0661\u0662\u0663\u0664 \u00bd\u00b2\u2168",
        "cafe\u0301 caf\u00e9 \u212b \ufb01 \u1e9b\u0323", "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093 \uc548\ub155",
        "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0939\u093f\u0928\u094d\u0926\u0940",
        "\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67 \ud83c\uddeb\ud83c\uddf7 \ud83e\udd26\ud83c\udffc\u200d\u2642\ufe0f",
        "!!!???...---___===", "#include <a.h>\n\tint x=0x1F;  // y\n", "http://a.b/c?d=e&f=g#h", "\u2581under\u2581score",
        "<s>", "</s><unk>", "<|begin_of_text|>", "a<|eot_id|>b <|eot_id|> <|eot_id", "<|end_header_id|>\n\n", "<0x0A>",
        "\ue000\uffff\u{10ffff}", "\u0300\u0301", "x".repeat(5000), " ".repeat(3000), "ab ".repeat(2000), "\n".repeat(500)
    ];
    const texts = ["text/exllamav3-cal/multilingual.utf8", "text/exllamav3-cal/code.utf8", "text/books.test.txt"];
    const textBytes = 200_000;

    async function assertSameIds(model, modelFile, text) {
        const file = path.join(dir, "text");
        fs.writeFileSync(file, text);
        for (const [parseSpecial, flags] of [[true, []], [false, ["--no-parse-special"]]]) {
            const {ids} = shoehornJson("tokenize", "-m", modelFile, "-f", file, "--no-bos", ...flags);
            const expected = model.tokenize(text, parseSpecial);
            const at = expected.findIndex((id, i) => id !== ids[i]);
            assert.ok(at < 0 && ids.length === expected.length,
                `${JSON.stringify(text.slice(0, 40))}, special tokens ${parseSpecial ? "parsed" : "as text"}: ` +
                `at ${at} [${ids.slice(Math.max(at, 0), at + 8)}], llama.cpp's [${expected.slice(Math.max(at, 0), at + 8)}]`);
        }
    }

    // The checkpoint's folder in the repository or under ../shared, and the file made of it.
    const vocabularies = {
        "byte-level BPE": [() => fable, gguf("bpe")],
        "SentencePiece": [t => shared(t, "models/stories260K"), gguf("spm")]
    };
    for (const [name, [find, file]] of Object.entries(vocabularies)) {
        test(`${name}: awkward strings`, async t => {
            const checkpoint = find(t);
            if (checkpoint === undefined) return;
            shoehorn("convert", checkpoint, file, "--type", "f16");
            await withModel(file, async model => {
                for (const text of awkward) await assertSameIds(model, file, text);
            }, {vocabOnly: true});
        });
        for (const relative of texts) {
            test(`${name}: ${path.basename(relative)}`, async t => {
                const checkpoint = find(t);
                const source = shared(t, `data/${relative}`);
                if (checkpoint === undefined || source === undefined) return;
                shoehorn("convert", checkpoint, file, "--type", "f16");
                // A text that stops inside a character decodes to U+FFFD at its end, which is valid again.
                const text = fs.readFileSync(source).subarray(0, textBytes).toString("utf8");
                await withModel(file, model => assertSameIds(model, file, text), {vocabOnly: true});
            });
        }
    }
});
