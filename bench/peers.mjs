// Runs GGUF files through Shoehorn and its peers in turns and prints the medians. bench/peers starts it.
import {spawnSync} from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {fileURLToPath} from "node:url";
import {parseArgs} from "node:util";

const here = path.dirname(fileURLToPath(import.meta.url));
const nodeModules = path.join(here, "../tests/interop/node_modules");

const usage = `usage: peers -m MODEL.gguf [-m ...] [--llama-bench NAME=PATH ...] [options]

  -m, --model FILE          GGUF file; may be repeated
  --llama-bench NAME=PATH   a llama-bench of a peer; may be repeated. One called llama.cpp counts as the same peer as
                            node-llama-cpp, which always takes part: the faster of the two stands in the table
  -p, --n-prompt N[,N]      prompt lengths                                (default 512)
  -n, --n-gen N[,N]         tokens to generate                            (default 64)
  -d, --n-depth N[,N]       tokens in the context before the generation   (default 0)
  -r, --rounds N            every program runs once per round             (default 3)
  -t, --threads N           threads of every program                      (default 2)
  --cache-type TYPE         KV cache type of every program                (default f16)
  --shoehorn PATH           the program                                   (default build/shoehorn)
  --json FILE               write all samples there
  --keep-all                do not drop a peer's settings that fell far behind its best in the first round

Each peer runs with flash attention off and on, and with run-time repacking off and on where it has that; the table has its
best setting for each test. n/a: it cannot load the file.
Example: bench/peers -m q4_k_m.gguf --llama-bench llama.cpp=llama.cpp/build/bin/llama-bench \\
             --llama-bench ik_llama.cpp=ik_llama.cpp/build/bin/llama-bench -p 512 -n 64 -d 0,4096 -r 3 -t 2`;

// A setting slower than this share of its peer's best in every test of the first round is not run again.
const farBehind = 0.8;
const none = "n/a";

function fail(message) {
    console.error(`error: ${message}`);
    process.exit(1);
}

function parseOptions() {
    let values;
    try {
        ({values} = parseArgs({
            options: {
                model: {type: "string", short: "m", multiple: true, default: []},
                "llama-bench": {type: "string", multiple: true, default: []},
                "n-prompt": {type: "string", short: "p", default: "512"},
                "n-gen": {type: "string", short: "n", default: "64"},
                "n-depth": {type: "string", short: "d", default: "0"},
                rounds: {type: "string", short: "r", default: "3"},
                threads: {type: "string", short: "t", default: "2"},
                "cache-type": {type: "string", default: "f16"},
                shoehorn: {type: "string", default: path.join(here, "../build/shoehorn")},
                json: {type: "string"},
                "keep-all": {type: "boolean", default: false},
                help: {type: "boolean", short: "h", default: false}
            }
        }));
    } catch (error) {
        fail(`${error.message}\n\n${usage}`);
    }
    if (values.help) {
        console.log(usage);
        process.exit(0);
    }
    const numbers = name => values[name].split(",").map(text => {
        if (!/^\d+$/.test(text)) fail(`--${name} takes numbers, not "${values[name]}"`);
        return Number(text);
    });
    if (values.model.length === 0) fail(`no model\n\n${usage}`);
    const benches = values["llama-bench"].map(text => {
        const at = text.indexOf("=");
        if (at < 1) fail(`--llama-bench takes NAME=PATH, not "${text}"`);
        return {name: text.slice(0, at), program: text.slice(at + 1)};
    });
    for (const file of [...values.model, values.shoehorn, ...benches.map(b => b.program)]) {
        if (!fs.existsSync(file)) fail(`${file}: no such file`);
    }
    return {
        models: values.model, benches, shoehorn: values.shoehorn, json: values.json, keepAll: values["keep-all"],
        prompts: numbers("n-prompt").filter(n => n > 0), gens: numbers("n-gen").filter(n => n > 0), depths: numbers("n-depth"),
        rounds: Math.max(1, numbers("rounds")[0]), threads: numbers("threads")[0], cacheType: values["cache-type"]
    };
}

/** Runs a program; {stdout} or {error: its last words}. */
function run(program, args) {
    const result = spawnSync(program, args, {encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"]});
    if (result.error) return {error: result.error.message};
    if (result.status === 0) return {stdout: result.stdout};
    const lines = (result.stderr || result.stdout).trim().split("\n");
    const words = lines.find(line => /error|fail|unknown|invalid/i.test(line)) ?? lines.at(-1);
    return {error: `${words.trim()} (exit status ${result.status ?? result.signal})`};
}

function parseRows(stdout) {
    try {
        return {rows: JSON.parse(stdout)};
    } catch {
        return {error: `output is not JSON: ${stdout.slice(0, 80)}`};
    }
}

const promptTest = n => `pp${n}`;
const genTest = (n, depth) => depth > 0 ? `tg${n} @ d${depth}` : `tg${n}`;

/** What llama-bench's rows measured: {test: tokens per second}. */
function ratesOf(rows) {
    const rates = {};
    for (const row of rows) {
        // ik_llama.cpp's -gp: generation after a prompt that is not timed.
        const after = /^tg(\d+)@pp(\d+)/.exec(row.test ?? "");
        if (after) rates[genTest(Number(after[1]), Number(after[2]))] = row.avg_ts;
        else if (row.n_prompt > 0) rates[promptTest(row.n_prompt)] = row.avg_ts;
        else rates[genTest(row.n_gen, row.n_depth ?? 0)] = row.avg_ts;
    }
    return rates;
}

/** A program that takes llama-bench's flags, run once for the prompts and once for the generation. */
function runBench(program, model, o, flags, {hasDepth = true} = {}) {
    const common = [...flags, "-m", model, "-r", "1", "-t", `${o.threads}`, "-ctk", o.cacheType, "-ctv", o.cacheType, "-o", "json"];
    const runs = [];
    if (o.prompts.length > 0) runs.push(["-p", o.prompts.join(), "-n", "0"]);
    if (hasDepth) {
        if (o.gens.length > 0) runs.push(["-p", "0", "-n", o.gens.join(), "-d", o.depths.join()]);
    } else {
        const pairs = o.depths.filter(d => d > 0).flatMap(d => o.gens.flatMap(n => ["-gp", `${d},${n}`]));
        if (o.gens.length > 0) runs.push(["-p", "0", "-n", o.depths.includes(0) ? o.gens.join() : "0", ...pairs]);
    }
    const all = [];
    for (const args of runs) {
        const result = run(program, [...common, ...args]);
        if (result.error) return result;
        const parsed = parseRows(result.stdout);
        if (parsed.error) return parsed;
        all.push(...parsed.rows);
    }
    return {rates: ratesOf(all), rows: all};
}

/** Everything that is compared: {peer, setting, version, measure(model) -> {rates, rows} or {error}}. */
function contenders(o) {
    const list = [{
        peer: "shoehorn", setting: "",
        measure: model => runBench(o.shoehorn, model, o, ["bench", "-q"])
    }];
    const {version} = JSON.parse(fs.readFileSync(path.join(nodeModules, "node-llama-cpp/package.json"), "utf8"));
    for (const flashAttention of [false, true]) {
        list.push({
            peer: "llama.cpp", setting: `node-llama-cpp, fa ${Number(flashAttention)}`, version: `node-llama-cpp ${version}`,
            measure: model => {
                const {prompts, gens, depths, threads, cacheType} = o;
                const job = {model, prompts, gens, depths, threads, cacheType, flashAttention};
                const result = run(process.execPath, [path.join(here, "node_llama_cpp.mjs"), JSON.stringify(job)]);
                if (result.error) return result;
                const parsed = parseRows(result.stdout);
                return parsed.error ? parsed : {rates: ratesOf(parsed.rows), rows: parsed.rows};
            }
        });
    }
    for (const {name, program} of o.benches) {
        const help = run(program, ["--help"]);
        if (help.error) fail(`${program} --help: ${help.error}`);
        const hasDepth = help.stdout.includes("--n-depth"), hasRepack = help.stdout.includes("--run-time-repack");
        const onOff = help.stdout.includes("<on|off|auto>") ? ["off", "on"] : ["0", "1"];
        for (const repack of hasRepack ? [0, 1] : [undefined]) {
            for (const fa of [0, 1]) {
                const flags = ["-fa", onOff[fa], ...(repack === undefined ? [] : ["-rtr", `${repack}`])];
                list.push({
                    peer: name, setting: `llama-bench, fa ${fa}${repack === undefined ? "" : `, rtr ${repack}`}`, program: true,
                    measure: model => runBench(program, model, o, flags, {hasDepth})
                });
            }
        }
    }
    return list;
}

const labelOf = ({peer, setting}) => setting ? `${peer} (${setting})` : peer;

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Runs all contenders on one model, in turns: [{contender, samples: {test: [tokens per second]}, error}]. */
function measureModel(model, list, o, machine) {
    const runs = list.map(contender => ({contender, samples: {}, dropped: false}));
    for (let round = 0; round < o.rounds; ++round) {
        for (const r of runs) {
            if (r.error || r.dropped) continue;
            const label = labelOf(r.contender);
            const result = r.contender.measure(model);
            if (result.error) {
                r.error = result.error;
                console.error(`${path.basename(model)}, round ${round + 1}: ${label}: ${result.error}`);
                continue;
            }
            for (const [test, rate] of Object.entries(result.rates)) (r.samples[test] ??= []).push(rate);
            learn(r, result.rows, machine);
            const rates = Object.entries(result.rates).map(([test, rate]) => `${test} ${rate.toFixed(2)}`);
            console.error(`${path.basename(model)}, round ${round + 1}/${o.rounds}: ${label}: ${rates.join(", ")}`);
        }
        if (round === 0 && !o.keepAll) dropSlowSettings(runs);
    }
    return runs;
}

/** Versions, the machine's ceilings and the model's name, as the programs' rows have them. */
function learn(run, rows, machine) {
    const row = rows[0];
    if (run.contender.peer === "shoehorn") {
        run.info = {type: row.model_type, bytes: row.model_size, hash: row.logits_hash};
        run.gbPerToken ??= {};
        for (const r of rows) run.gbPerToken[Object.keys(ratesOf([r]))[0]] = r.mbu * r.read_gbs / r.avg_ts;
        machine.cpu = row.cpu_info;
        for (const r of rows) {
            machine.read_gbs = Math.max(machine.read_gbs ?? 0, r.read_gbs ?? 0);
            if (r.int8_gmacs != null) machine.int8_gmacs = Math.max(machine.int8_gmacs ?? 0, r.int8_gmacs);
        }
        run.contender.version = `shoehorn ${row.build_commit}, ${row.isa}`;
    } else if (run.contender.program) {
        run.contender.version = `${run.contender.peer} ${row.build_commit}${row.build_number ? ` (${row.build_number})` : ""}`;
    }
}

function dropSlowSettings(runs) {
    const bestRate = (peer, test) => Math.max(...runs.filter(r => r.contender.peer === peer).map(r => r.samples[test]?.[0] ?? 0));
    for (const r of runs) {
        const tests = Object.keys(r.samples);
        r.dropped = tests.length > 0 && tests.every(test => r.samples[test][0] < farBehind * bestRate(r.contender.peer, test));
    }
}

/** The setting of a peer with the highest median in a test: {rate, setting}, or undefined when none could run it. */
function bestOf(runs, peer, test) {
    let best;
    for (const r of runs) {
        if (r.contender.peer !== peer || !r.samples[test]) continue;
        const rate = median(r.samples[test]);
        if (!best || rate > best.rate) best = {rate, setting: r.contender.setting};
    }
    return best;
}

function table(results, o, machine) {
    const peers = [...new Set(results[0].runs.map(r => r.contender.peer))].filter(peer => peer !== "shoehorn");
    const header = ["model", "GiB", "test", "shoehorn", "GB/s", ...peers.flatMap(peer => [peer, "ratio", "its setting"])];
    const rows = [header, header.map(title => ["model", "test", "its setting"].includes(title) ? "---" : "---:")];
    const tests = [...o.prompts.map(promptTest), ...o.depths.flatMap(d => o.gens.map(n => genTest(n, d)))];
    for (const {model, runs} of results) {
        const ours = runs.find(r => r.contender.peer === "shoehorn");
        for (const test of tests) {
            const own = bestOf(runs, "shoehorn", test);
            const row = [ours.info?.type ?? path.basename(model), ours.info ? (ours.info.bytes / 2 ** 30).toFixed(2) : none, test,
                own ? own.rate.toFixed(2) : none, own ? (own.rate * ours.gbPerToken[test]).toFixed(1) : none];
            for (const peer of peers) {
                const best = bestOf(runs, peer, test);
                row.push(best ? best.rate.toFixed(2) : none, best && own ? (own.rate / best.rate).toFixed(2) : none,
                    best ? best.setting : none);
            }
            rows.push(row);
        }
    }
    const versions = [...new Set(results.flatMap(({runs}) => runs.map(r => r.contender.version)).filter(Boolean))];
    const lines = rows.map(row => `| ${row.join(" | ")} |`);
    lines.push("", `${machine.date}, ${machine.cpu}, ${o.threads} threads, KV cache ${o.cacheType}: reads ` +
        `${machine.read_gbs?.toFixed(1) ?? "?"} GB/s, int8 peak ${machine.int8_gmacs?.toFixed(0) ?? "not measured"}` +
        `${machine.int8_gmacs ? " GMAC/s" : ""}. Tokens per second, medians of ${o.rounds} round${o.rounds === 1 ? "" : "s"} in turns; GB/s is what ` +
        `Shoehorn reads at its rate; ratios are Shoehorn's rate over the peer's.`, "", `${versions.join("; ")}.`);
    const errors = results.flatMap(({model, runs}) => runs.filter(r => r.error).map(r =>
        `* ${path.basename(model)}, ${labelOf(r.contender)}: ${r.error}`));
    if (errors.length > 0) lines.push("", ...errors);
    return lines.join("\n");
}

function writeJson(file, results, o, machine) {
    const raw = results.flatMap(({model, runs}) => runs.map(({contender, samples, error, info}) => ({
        model: path.basename(model), ...info, peer: contender.peer, setting: contender.setting, version: contender.version, samples,
        medians: Object.fromEntries(Object.entries(samples).map(([test, values]) => [test, median(values)])), error
    })));
    const all = {machine, cache_type: o.cacheType, rounds: o.rounds, results: raw};
    fs.writeFileSync(`${file}.part`, JSON.stringify(all, null, 2) + "\n");
    fs.renameSync(`${file}.part`, file);
}

const o = parseOptions();
const machine = {date: new Date().toISOString().slice(0, 10), threads: o.threads, load_before: os.loadavg()[0]};
const list = contenders(o);
const results = [];
for (const model of o.models) {
    results.push({model, runs: measureModel(model, list, o, machine)});
    machine.load_after = os.loadavg()[0];
    if (o.json) writeJson(o.json, results, o, machine);  // after each, so that a run that is stopped leaves what it has
}
console.log(table(results, o, machine));
