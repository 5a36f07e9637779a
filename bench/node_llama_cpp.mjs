// llama.cpp's rates through node-llama-cpp, as rows with llama-bench's keys: node node_llama_cpp.mjs JOB
// JOB is JSON: {model, prompts, gens, depths, threads, cacheType, flashAttention}. bench/peers runs it.
import {createRequire} from "node:module";
import path from "node:path";
import {fileURLToPath, pathToFileURL} from "node:url";

const modules = path.join(path.dirname(fileURLToPath(import.meta.url)), "../tests/interop/node_modules");
const entry = createRequire(path.join(modules, "x.js")).resolve("node-llama-cpp");
const {getLlama} = await import(pathToFileURL(entry));

const job = JSON.parse(process.argv[2]);
const batchSize = 512;
const longest = Math.max(...job.prompts, ...job.depths.flatMap(d => job.gens.map(n => d + n)));

const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, logLevel: "error", progressLogs: false, maxThreads: job.threads
});
const model = await llama.loadModel({modelPath: job.model, gpuLayers: 0});
const context = await model.createContext({
    contextSize: longest + 32, batchSize, threads: {ideal: job.threads, min: job.threads}, flashAttention: job.flashAttention,
    experimentalKvCacheKeyType: job.cacheType.toUpperCase(), experimentalKvCacheValueType: job.cacheType.toUpperCase()
});
const sequence = context.getSequence();
const vocabSize = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
// Any ids will do; these are spread over the vocabulary and the same every time.
const tokens = n => Array.from({length: n}, (_, i) => (i * 7919 + 13) % vocabSize);

const read = n => sequence.evaluateWithoutGeneratingNewTokens(tokens(n));

/** Generates n tokens greedily; what that takes, in seconds, from the second token on: the first one reads the input. */
async function generate(n) {
    let start;
    let count = 0;
    for await (const _ of sequence.evaluate([tokens(1)[0]], {temperature: 0, yieldEogToken: true})) {
        start ??= performance.now();
        if (count++ === n) break;
    }
    return (performance.now() - start) / 1000;
}

const rows = [];
for (const n of job.prompts) {
    await read(n);
    await sequence.clearHistory();
    const start = performance.now();
    await read(n);
    const seconds = (performance.now() - start) / 1000;
    await sequence.clearHistory();
    rows.push({n_prompt: n, n_gen: 0, n_depth: 0, avg_ts: n / seconds});
}
for (const depth of job.depths) {
    for (const n of job.gens) {
        if (depth > 0) await read(depth);
        const seconds = await generate(n);
        await sequence.clearHistory();
        rows.push({n_prompt: 0, n_gen: n, n_depth: depth, avg_ts: n / seconds});
    }
}
console.log(JSON.stringify(rows));
await llama.dispose();
