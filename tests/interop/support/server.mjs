// A server of the small model, for a test file.
import {spawn} from "node:child_process";
import path from "node:path";
import {program, root, shoehorn, tempDir} from "./shoehorn.mjs";

/** A template that knows system messages and tools, for a model that was trained on none. */
export const template = "{% if tools %}{{ tools | tojson }} <tool_call>{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>";

/** Where a server that was started with its stderr piped listens. */
export function addressOf(server) {
    return new Promise((resolve, reject) => {
        let said = "";
        server.stderr.on("data", data => {
            said += data;
            const found = /listening on (http:\/\/[0-9.:]+)/.exec(said);
            if (found) resolve(found[1]);
        });
        server.on("exit", () => reject(new Error(said)));
    });
}

/** Starts `shoehorn serve` on a free port: its process and its address. */
export async function startServer(...options) {
    const model = path.join(tempDir(), "fable.gguf");
    shoehorn("quantize", path.join(root, "models/fable-10m"), model, "Q8_0", "--no-check", "-q");
    const server = spawn(program, ["serve", "-m", model, "--port", "0", "-c", "512", "--temp", "0", "-t", "1", ...(options.includes("--chat-template") ? [] : ["--chat-template", template]), ...options]);
    return {server, base: await addressOf(server)};
}
