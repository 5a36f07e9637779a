// Runs the program under test, and finds the data that tests use.
import {execFileSync} from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {fileURLToPath} from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");

export const program = path.resolve(root, process.env.SHOEHORN_BUILD ?? "build", "shoehorn");

/** Runs `shoehorn ARGS...` and returns its stdout; throws with its stderr when it fails. */
export function shoehorn(...args) {
    return execFileSync(program, args, {encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"]});
}

/** `shoehorn ARGS... --json`, parsed. */
export function shoehornJson(...args) {
    return JSON.parse(shoehorn(...args, "--json"));
}

/**
 * PATH under ../shared. When it is absent the test T is skipped (or fails under SHOEHORN_REQUIRE_SHARED=1) and
 * undefined is returned.
 */
export function shared(t, relative) {
    const found = path.join(root, "../shared", relative);
    if (fs.existsSync(found)) return found;
    const message = `../shared/${relative} is absent`;
    if (process.env.SHOEHORN_REQUIRE_SHARED === "1") throw new Error(message);
    t.skip(message);
    return undefined;
}

/** A fresh folder, removed when the process ends. */
export function tempDir() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), "shoehorn-interop-"));
    process.on("exit", () => fs.rmSync(dir, {recursive: true, force: true}));
    return dir;
}
