// Cuts a Llama checkpoint into a jagged one: MLP widths and attention heads that differ from layer to layer.
import fs from "node:fs";
import path from "node:path";

const bytesPerElement = {BF16: 2, F16: 2, F32: 4};

/** {name: {dtype, shape, data}} of a single-file checkpoint. */
function readSafetensors(file) {
    const bytes = fs.readFileSync(file);
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString("utf8"));
    delete header.__metadata__;
    const data = bytes.subarray(8 + headerBytes);
    return Object.fromEntries(Object.entries(header).map(
        ([name, {dtype, shape, data_offsets: [begin, end]}]) => [name, {dtype, shape, data: data.subarray(begin, end)}]));
}

function writeSafetensors(file, tensors) {
    const header = {};
    let offset = 0;
    for (const [name, {dtype, shape, data}] of Object.entries(tensors)) {
        header[name] = {dtype, shape, data_offsets: [offset, offset += data.length]};
    }
    const headerBytes = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(headerBytes.length));
    fs.writeFileSync(file, Buffer.concat([length, headerBytes, ...Object.values(tensors).map(({data}) => data)]));
}

/** The first `count` rows of a [rows, columns] tensor. */
function keepRows({dtype, shape: [, columns], data}, count) {
    return {dtype, shape: [count, columns], data: data.subarray(0, count * columns * bytesPerElement[dtype])};
}

/** The first `count` columns of a [rows, columns] tensor. */
function keepColumns({dtype, shape: [rows, columns], data}, count) {
    const width = bytesPerElement[dtype];
    const kept = [];
    for (let row = 0; row < rows; ++row) {
        kept.push(data.subarray(row * columns * width, (row * columns + count) * width));
    }
    return {dtype, shape: [rows, count], data: Buffer.concat(kept)};
}

/**
 * Writes to `outDir` the checkpoint in `inDir` with widths[i] of the MLP and kvHeads[i] of the key/value heads (and
 * the query heads that share them) left in layer i.
 */
export function writeJagged(inDir, outDir, {widths, kvHeads}) {
    fs.cpSync(inDir, outDir, {recursive: true});
    const config = JSON.parse(fs.readFileSync(path.join(inDir, "config.json"), "utf8"));
    const headsPerGroup = config.num_attention_heads / config.num_key_value_heads;
    const headDim = config.head_dim;
    const tensors = readSafetensors(path.join(inDir, "model.safetensors"));
    widths.forEach((width, layer) => {
        const edit = (name, keep, count) => {
            const key = `model.layers.${layer}.${name}.weight`;
            tensors[key] = keep(tensors[key], count);
        };
        edit("mlp.gate_proj", keepRows, width);
        edit("mlp.up_proj", keepRows, width);
        edit("mlp.down_proj", keepColumns, width);
        edit("self_attn.q_proj", keepRows, kvHeads[layer] * headsPerGroup * headDim);
        edit("self_attn.k_proj", keepRows, kvHeads[layer] * headDim);
        edit("self_attn.v_proj", keepRows, kvHeads[layer] * headDim);
        edit("self_attn.o_proj", keepColumns, kvHeads[layer] * headsPerGroup * headDim);
    });
    config.intermediate_size = widths;
    config.num_attention_heads = kvHeads.map(count => count * headsPerGroup);
    config.num_key_value_heads = kvHeads;
    fs.writeFileSync(path.join(outDir, "config.json"), JSON.stringify(config, null, 2));
    writeSafetensors(path.join(outDir, "model.safetensors"), tensors);
}
