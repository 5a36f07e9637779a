// llama.cpp on the CPU, through node-llama-cpp and its prebuilt library: nothing is downloaded or compiled.
import {getLlama} from "node-llama-cpp";

/** Calls `use` with llama.cpp's view of a GGUF file, with a LoRA adapter over it where one is given, and frees it afterwards. Rejects when
 * llama.cpp refuses a file. */
export async function withModel(modelPath, use, {vocabOnly = false, adapter, cacheType = "F16"} = {}) {
    const llama = await getLlama({
        gpu: false, build: "never", skipDownload: true, logLevel: "error", progressLogs: false, maxThreads: 1
    });
    try {
        const model = await llama.loadModel({modelPath, gpuLayers: 0, vocabOnly});
        return await use(new LlamaCppModel(model, adapter, cacheType));
    } finally {
        await llama.dispose();
    }
}

class LlamaCppModel {
    #model;
    #adapter;
    #cacheType;
    #sequence;

    constructor(model, adapter, cacheType) {
        this.#model = model;
        this.#adapter = adapter;
        this.#cacheType = cacheType;
    }

    /** The same model with its keys and values kept in another type. */
    withCache(cacheType) {
        return new LlamaCppModel(this.#model, this.#adapter, cacheType);
    }

    get architecture() {
        return this.#model.fileInfo.metadata.general.architecture;
    }

    isEog(id) {
        return this.#model.isEogToken(id);
    }

    /** Token ids of a text without BOS; with `parseSpecial`, the text of a control token becomes that token. */
    tokenize(text, parseSpecial) {
        return [...this.#model.tokenize(text, parseSpecial)];
    }

    /** Token ids with BOS where the vocabulary asks for it. */
    tokenizePrompt(text, parseSpecial) {
        const {bos, shouldPrependBosToken} = this.#model.tokens;
        return [...(shouldPrependBosToken ? [bos] : []), ...this.tokenize(text, parseSpecial)];
    }

    /** Next-token logits after each of ids[from..]: an array of Map(id -> logit). At most 512 ids. */
    async logits(ids, from) {
        const lora = this.#adapter === undefined ? undefined : {adapters: [{filePath: this.#adapter, scale: 1}]};
        this.#sequence ??= (await this.#model.createContext({
            contextSize: 768, batchSize: 512, threads: 1, lora,
            // Values of a quantized type need flash attention.
            ...this.#cacheType === "F16" ? {} : {
                flashAttention: true, experimentalKvCacheKeyType: this.#cacheType, experimentalKvCacheValueType: this.#cacheType
            }
        })).getSequence();
        await this.#sequence.clearHistory();
        const outputs = await this.#sequence.controlledEvaluate(
            ids.map((id, i) => i < from ? id : [id, {generateNext: {logits: true}}]));
        return outputs.slice(from).map(output => output.next.logits);
    }

    /** The first chunks of a text by the protocol of llama-perplexity at n_ctx 512: {ids, from}, where the tokens behind ids[from..] are
     * predicted. */
    chunks(text, nChunks) {
        const nCtx = 512;
        const ids = this.tokenizePrompt(text, false);
        const [bos] = this.tokenizePrompt("", false);
        return Array.from({length: nChunks}, (_, chunk) => {
            const window = ids.slice(chunk * nCtx, (chunk + 1) * nCtx);
            if (bos !== undefined) window[0] = bos;
            return {ids: window, from: nCtx / 2};
        });
    }

    /** Perplexity of these chunks. */
    async perplexity(text, nChunks) {
        let nll = 0;
        let count = 0;
        for (const {ids, from} of this.chunks(text, nChunks)) {
            const logits = await this.logits(ids.slice(0, -1), from);
            logits.forEach((row, i) => {
                nll -= logSoftmax(row, ids[from + i + 1]);
                ++count;
            });
        }
        return Math.exp(nll / count);
    }
}

/** The largest of a row of logits, as [id, logit]. */
export function best(row) {
    let found = [-1, -Infinity];
    for (const entry of row) if (entry[1] > found[1]) found = entry;
    return found;
}

/** The probabilities that a row of logits stands for: Map(id -> probability). */
export function softmax(row) {
    const top = best(row)[1];
    const powers = new Map([...row].map(([id, logit]) => [id, Math.exp(logit - top)]));
    const sum = [...powers.values()].reduce((a, b) => a + b, 0);
    return new Map([...powers].map(([id, power]) => [id, power / sum]));
}

function logSoftmax(row, id) {
    const [, max] = best(row);
    let sum = 0;
    for (const logit of row.values()) sum += Math.exp(logit - max);
    return row.get(id) - max - Math.log(sum);
}
