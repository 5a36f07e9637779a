// KL that a type of KV cache costs stock llama.cpp, beside its own F16 cache: node llama_cpp_cache.mjs MODEL.gguf TYPE on|off CHUNKS TEXT...
// on: with the rotation that it does by itself where the type is quantized. bench/rotation runs it.
import fs from "node:fs";
import {softmax, withModel} from "../tests/interop/support/llama_cpp.mjs";

const [file, type, rotation, nChunks, ...texts] = process.argv.slice(2);
if (rotation === "off") process.env.LLAMA_ATTN_ROT_DISABLE = "1";

/** KL(p || q) of two rows of logits. */
function divergence(p, q) {
    const a = softmax(p), b = softmax(q);
    let sum = 0;
    for (const [id, share] of a) if (share > 0) sum += share * (Math.log(share) - Math.log(b.get(id)));
    return sum;
}

await withModel(file, async plain => {
    const cached = type === "f16" ? plain : plain.withCache(type.toUpperCase());
    const cells = [];
    for (const text of texts) {
        const found = [];
        for (const {ids, from} of plain.chunks(fs.readFileSync(text, "utf8"), Number(nChunks))) {
            const expected = await plain.logits(ids.slice(0, -1), from);
            const got = await cached.logits(ids.slice(0, -1), from);
            expected.forEach((row, i) => found.push(divergence(row, got[i])));
        }
        const mean = found.reduce((a, b) => a + b, 0) / found.length;
        const variance = found.reduce((a, b) => a + (b - mean) ** 2, 0) / (found.length - 1);
        cells.push(`${+mean.toFixed(5)} ± ${+Math.sqrt(variance / found.length).toFixed(5)}`);
    }
    process.stdout.write(cells.join(" / "));
});
