// bench/peers runs the same file through Shoehorn and llama.cpp and compares the rates.
import assert from "node:assert/strict";
import {spawnSync} from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {test} from "node:test";
import {program, root, shoehorn, tempDir} from "./support/shoehorn.mjs";

const dir = tempDir();
const model = path.join(dir, "model.gguf");

function peers(...args) {
    return spawnSync(path.join(root, "bench/peers"), ["--shoehorn", program, ...args], {encoding: "utf8"});
}

test("bench/peers measures both programs, and says which file one cannot load", () => {
    shoehorn("quantize", path.join(root, "models/fable-10m"), model, "Q8_0");
    const broken = path.join(dir, "broken.gguf");
    fs.writeFileSync(broken, "no model");
    const json = path.join(dir, "peers.json");
    const {status, stdout, stderr} = peers("-m", model, "-m", broken, "-p", "32", "-n", "4", "-d", "0,16", "-r", "2", "-t", "1",
        "--json", json);
    assert.equal(status, 0, stderr);
    const cells = stdout.split("\n").filter(line => line.startsWith("|")).map(line => line.split("|").map(cell => cell.trim()));
    const [header, , ...rows] = cells;
    assert.deepEqual(rows.map(row => row[3]), ["pp32", "tg4", "tg4 @ d16", "pp32", "tg4", "tg4 @ d16"]);
    const column = name => header.indexOf(name);
    for (const row of rows.slice(0, 3)) {
        const [ours, theirs, ratio] = ["shoehorn", "llama.cpp", "ratio"].map(name => Number(row[column(name)]));
        assert.ok(ours > 0 && theirs > 0, row.join(" | "));
        assert.ok(Math.abs(ratio - ours / theirs) < 0.01, row.join(" | "));
    }
    for (const row of rows.slice(3)) assert.equal(row[column("llama.cpp")], "n/a");
    assert.match(stdout, /reads [\d.]+ GB\/s/);
    assert.match(stdout, /\* broken\.gguf, shoehorn: /);

    const {machine, results} = JSON.parse(fs.readFileSync(json, "utf8"));
    assert.ok(machine.read_gbs > 0);
    const ours = results.find(r => r.peer === "shoehorn");
    assert.equal(ours.samples.pp32.length, 2);
    assert.match(ours.hash, /^[0-9a-f]{16}$/);
});

test("bench/peers refuses what it does not understand", () => {
    for (const args of [[], ["-m", "/no/such/model"], ["-m", program, "-p", "x"], ["-m", program, "--llama-bench", "nameless"]]) {
        const {status, stdout, stderr} = peers(...args);
        assert.equal(status, 1);
        assert.equal(stdout, "");
        assert.match(stderr, /^error: /);
    }
});
