// Clients that mean no good, or go away: the server says so and goes on.
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import {after, before, test} from "node:test";
import {setTimeout as sleep} from "node:timers/promises";
import {startServer} from "./support/server.mjs";

let server, base;

before(async () => {
    ({server, base} = await startServer("-np", "4", "--metrics"));
});
after(() => server?.kill("SIGINT"));

const post = (path, body, options = {}) => fetch(`${base}${path}`, {method: "POST", body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body), ...options});
const residentMiB = () => Number(/^VmRSS:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${server.pid}/status`, "utf8"))[1]) / 1024;

async function metric(name) {
    const text = await (await fetch(`${base}/metrics`)).text();
    return Number(new RegExp(`^shoehorn:${name} (\\S+)`, "m").exec(text)[1]);
}

async function assertAlive() {
    const answer = await post("/v1/completions", {prompt: "Once", max_tokens: 3});
    assert.equal(answer.status, 200);
    assert.equal((await answer.json()).usage.completion_tokens, 3);
}

test("a thousand aborted requests leave nothing behind", async () => {
    const abort = async i => {
        const controller = new AbortController();
        const timer = setTimeout(() => controller.abort(), i % 25);
        await post("/v1/completions", {prompt: "Once upon a time", max_tokens: 400, stream: i % 2 === 0}, {signal: controller.signal})
            .then(response => response.text()).catch(() => {});
        clearTimeout(timer);
    };
    await Promise.all(Array.from({length: 20}, (_, i) => abort(i)));
    const before = residentMiB();
    for (let done = 0; done < 1000; done += 20) await Promise.all(Array.from({length: 20}, (_, i) => abort(done + i)));
    for (let i = 0; i < 100 && (await metric("requests_processing")) + (await metric("requests_deferred")) > 0; ++i) await sleep(50);
    assert.equal(await metric("requests_processing"), 0);
    assert.equal(await metric("requests_deferred"), 0);
    assert.ok(residentMiB() < before * 1.2 + 8, `${before} MiB before, ${residentMiB()} after`);
    await assertAlive();
});

test("a body of 100 MB is refused before it has come", async () => {
    const before = residentMiB();
    const {status, sent} = await new Promise((resolve, reject) => {
        const request = http.request(`${base}/v1/completions`, {method: "POST", headers: {"Content-Length": 100_000_000}}, response => {
            response.resume();
            resolve({status: response.statusCode, sent: request.socket.bytesWritten});
            request.destroy();
        });
        request.on("error", reject);
        request.write(Buffer.alloc(65536, " "));
    });
    assert.equal(status, 413);
    assert.ok(sent < 1_000_000);
    assert.ok(residentMiB() < before + 32);
    await assertAlive();
});

test("many connections that say little keep nobody out", async () => {
    const {port} = new URL(base);
    const sockets = Array.from({length: 60}, () => net.connect(port, "127.0.0.1").on("error", () => {}));
    sockets.forEach(socket => socket.write("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "));
    await sleep(200);
    await assertAlive();
    sockets.forEach(socket => socket.destroy());
});

test("requests of all wrong kinds get 400 and say why", async () => {
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    const bad = [
        new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), deep, `{"prompt": ${deep}}`, "{\"prompt\": \"a\", \"n\": 1e18}", {prompt: "a", n: 1_000_000}, {prompt: "a", n: -1}, {prompt: "a", max_tokens: -3},
        {prompt: "a", temperature: -1}, {prompt: "a", top_k: 1e12}, {prompt: "a", seed: -7}, {prompt: "a", logit_bias: {"-1": 5}}, {prompt: "a", stop: Array(1000).fill("x")},
        {prompt: "a", grammar: "root ::= root \"a\""}, {prompt: "a", grammar: "root ::= (".repeat(1000)}, {prompt: "a", grammar: "root ::= \"a\"{99999999999}"},
        {prompt: "a", json_schema: {$ref: "#/nowhere"}}, {prompt: "a", json_schema: {anyOf: Array(30).fill({$ref: "#"}), type: "object"}},
        {prompt: "a", json_schema: Object.fromEntries(Array.from({length: 600}, (_, i) => [`k${i}`, i]))},
    ];
    for (const body of bad) {
        const response = await post("/v1/completions", body);
        assert.equal(response.status, 400, typeof body === "string" ? body.slice(0, 80) : JSON.stringify(body).slice(0, 80));
        assert.ok((await response.json()).error.message.length > 10);
    }
    await assertAlive();
});

test("a grammar that could be read in ever more ways ends its own answer only", async () => {
    const grammar = "root ::= [a-z ] root \"b\" | [a-z ] root \"c\" | [a-z ] root \"d\" | \"\"";
    const response = await post("/v1/completions", {prompt: "Once", max_tokens: 100, grammar, logit_bias: {0: -100}});
    assert.ok([200, 400].includes(response.status));
    await assertAlive();
});

test("a template that loops is an error of its request", async () => {
    const looping = await startServer("--chat-template", "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}");
    try {
        const response = await fetch(`${looping.base}/v1/chat/completions`, {method: "POST", body: JSON.stringify({messages: [{role: "user", content: "a"}]})});
        assert.equal(response.status, 400);
        assert.match((await response.json()).error.message, /template/);
        assert.equal((await fetch(`${looping.base}/health`)).status, 200);
    } finally {
        looping.server.kill("SIGINT");
    }
});
