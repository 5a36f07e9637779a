// What `shoehorn serve` does under load: node bench/serve/load.mjs MODEL.gguf [BUILD_DIR]
//   streams   tokens/s of one stream, and of 8 side by side (STREAMS): while all of them generate, and from the first token of
//             any to the last of all, their prompts of 32 tokens included
//   gaps      time between two tokens of a stream while a prompt of 4096 tokens (PROMPT) is read beside it
//   memory    resident memory after 500 requests and after 10,000 (REQUESTS=0: left out)
// Medians of ROUNDS=3. Nothing else may run. One JSON object to stdout.
import {spawn} from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {setTimeout as sleep} from "node:timers/promises";
import {addressOf} from "../../tests/interop/support/server.mjs";

const [model, build = "build"] = process.argv.slice(2);
if (!model) {
    console.error("usage: node bench/serve/load.mjs MODEL.gguf [BUILD_DIR]");
    process.exit(2);
}
const setting = (name, otherwise) => Number(process.env[name] ?? otherwise);
const nStreams = setting("STREAMS", 8), nTokens = setting("TOKENS", 128), nPrompt = setting("PROMPT", 4096), rounds = setting("ROUNDS", 3), nRequests = setting("REQUESTS", 10_000);

const server = spawn(path.join(build, "shoehorn"), ["serve", "-m", model, "--port", "0", "-np", String(nStreams), "-c", String(nPrompt + 512), "--temp", "1", "--max-waiting", "64"], {stdio: ["ignore", "ignore", "pipe"]});
const base = await addressOf(server);
const median = values => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(q * values.length))];
const residentBytes = () => Number(/^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${server.pid}/status`, "utf8"))[1]) * 1024;

/** Ids of no meaning, other ones for each salt, so that no prompt is shared. */
const prompt = (n, salt) => Array.from({length: n}, (_, i) => 300 + ((i * 7919 + salt * 104729) % 500));

const complete = fields => fetch(`${base}/v1/completions`, {method: "POST", body: JSON.stringify(fields)});

/** Seconds at which the tokens of a stream came: each has an event of its own, unless it is a part of a character. */
async function stream(n, salt, onToken = () => {}) {
    const response = await complete({prompt: prompt(32, salt), max_tokens: n, stream: true, seed: salt});
    if (!response.ok) throw new Error(await response.text());
    const times = [];
    let left = "";
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
        left += piece;
        const events = left.split("\n\n");
        left = events.pop();
        for (const event of events) {
            if (event === "data: [DONE]" || !JSON.parse(event.slice(6)).choices[0]?.text) continue;
            times.push(performance.now() / 1000);
            onToken(times.length);
        }
    }
    return times;
}

/** Tokens a second from the first token of any stream to the last of all. */
const rate = times => (times.flat().length - times.length) / (Math.max(...times.flat()) - Math.min(...times.map(each => each[0])));
/** Tokens a second while all streams generate. */
const rateOfAll = times => {
    const begin = Math.max(...times.map(each => each[0])), end = Math.min(...times.map(each => each.at(-1)));
    return times.flat().filter(time => time > begin && time <= end).length / (end - begin);
};
const result = {model: path.basename(model), streams: nStreams, prompt: nPrompt, rounds};
const one = [], many = [], withPrompts = [];
for (let round = 0; round < rounds; ++round) {
    one.push(rate([await stream(nTokens, 100 + round)]));
    const times = await Promise.all(Array.from({length: nStreams}, (_, i) => stream(nTokens, 1000 * (round + 1) + i)));
    many.push(rateOfAll(times));
    withPrompts.push(rate(times));
}
Object.assign(result, {one_stream_tokens_per_second: median(one), all_streams_tokens_per_second: median(many), with_prompts_tokens_per_second: median(withPrompts), ratio: median(many.map((each, i) => each / one[i]))});

const ratios = [], p99s = [], medians = [];
for (let round = 0; round < rounds; ++round) {
    let reading;
    const times = await stream(400, 50_000 + round, n => {
        if (n === 4) reading = complete({prompt: prompt(nPrompt, 60_000 + round), max_tokens: 1}).then(response => response.text()).then(() => performance.now() / 1000);
    });
    const end = await reading, begin = times[3];
    // Gaps that lie within the reading.
    const gaps = times.slice(1).map((time, i) => [time - times[i], time]).filter(([, time]) => time > begin && time < end).map(([gap]) => gap);
    medians.push(median(gaps));
    p99s.push(quantile(gaps, 0.99));
    ratios.push(quantile(gaps, 0.99) / median(gaps));
}
Object.assign(result, {gap_median_s: median(medians), gap_p99_s: median(p99s), gap_ratio: median(ratios)});

if (nRequests > 0) {
    const memory = {};
    for (let done = 0; done < nRequests; done += 50) {
        if (done === 500) memory[500] = residentBytes();
        await Promise.all(Array.from({length: 50}, (_, i) => complete({prompt: prompt(8 + (i % 40), done + i), max_tokens: 4}).then(response => response.text())));
    }
    memory[nRequests] = residentBytes();
    Object.assign(result, {resident_bytes: memory, memory_ratio: memory[nRequests] / memory[500]});
}
console.log(JSON.stringify(result, null, 2));
server.kill("SIGINT");
await sleep(100);
