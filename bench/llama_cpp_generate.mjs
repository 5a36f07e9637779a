// Stock llama.cpp loads a GGUF and goes on with a text greedily: node llama_cpp_generate.mjs MODEL.gguf TEXT N. Prints its architecture
// and the ids. bench/compress runs it.
import {best, withModel} from "../tests/interop/support/llama_cpp.mjs";

const [model, text, n] = process.argv.slice(2);
await withModel(model, async llama => {
    const ids = llama.tokenizePrompt(text, false);
    const first = ids.length;
    while (ids.length < first + Number(n)) {
        const [row] = await llama.logits(ids, ids.length - 1);
        ids.push(best(row)[0]);
    }
    console.log(`llama.cpp: ${llama.architecture}, ${ids.slice(first).join(" ")}`);
});
