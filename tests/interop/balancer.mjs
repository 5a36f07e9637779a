// Two servers behind HAProxy, as packaging/haproxy.cfg has them.
import assert from "node:assert/strict";
import {execFileSync, spawn} from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import {after, before, test} from "node:test";
import {setTimeout as sleep} from "node:timers/promises";
import {root, tempDir} from "./support/shoehorn.mjs";
import {startServer} from "./support/server.mjs";

const haproxy = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].find(file => fs.existsSync(file));
const skip = haproxy ? false : "haproxy is not installed";
let instances, balancer, base;

/** A port that nothing listens on. */
function freePort() {
    return new Promise((resolve, reject) => {
        const server = net.createServer().on("error", reject);
        server.listen(0, "127.0.0.1", () => {
            const {port} = server.address();
            server.close(() => resolve(port));
        });
    });
}

before(async () => {
    if (skip) return;
    instances = [await startServer("-np", "8", "--metrics"), await startServer("-np", "8", "--metrics")];
    const port = await freePort(), config = path.join(tempDir(), "haproxy.cfg");
    const ports = {8000: port, 8081: new URL(instances[0].base).port, 8082: new URL(instances[1].base).port};
    fs.writeFileSync(config, fs.readFileSync(path.join(root, "packaging/haproxy.cfg"), "utf8").replace(/127\.0\.0\.1:(\d+)/g, (_, given) => `127.0.0.1:${ports[given]}`));
    execFileSync(haproxy, ["-c", "-q", "-f", config]);
    balancer = spawn(haproxy, ["-db", "-f", config], {stdio: "ignore"});
    base = `http://127.0.0.1:${port}`;
    for (let i = 0; i < 100; ++i) {
        if ((await fetch(`${base}/health`).catch(() => undefined))?.ok) return;
        await sleep(100);
    }
    throw new Error("haproxy does not answer");
});
after(() => {
    balancer?.kill("SIGKILL");
    for (const {server} of instances ?? []) server.kill("SIGKILL");
});

function chat(system, fields = {}, options = {}) {
    const messages = [{role: "system", content: system}, {role: "user", content: "Hello"}];
    return fetch(`${base}/v1/chat/completions`, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({messages, max_tokens: 4, ...fields}), ...options});
}

/** How many answers an instance has begun. */
async function begun(instance) {
    const text = await (await fetch(`${instance.base}/metrics`)).text();
    return Number(/^shoehorn:requests_total (\d+)/m.exec(text)[1]);
}

test("what begins alike meets on one instance, what does not is shared out", {skip}, async () => {
    const before = await Promise.all(instances.map(begun));
    for (let i = 0; i < 6; ++i) assert.equal((await chat("You are a pirate.")).status, 200);
    const same = (await Promise.all(instances.map(begun))).map((n, i) => n - before[i]);
    assert.deepEqual(same.toSorted(), [0, 6]);
    for (let i = 0; i < 24; ++i) assert.equal((await chat(`You are pirate number ${i}.`)).status, 200);
    const all = (await Promise.all(instances.map(begun))).map((n, i) => n - before[i] - same[i]);
    assert.ok(Math.min(...all) >= 4, `shared out as ${all}`);
});

test("killing an instance loses its running streams and nothing else", {skip}, async () => {
    /** Reads a stream to its end: whether it got there. */
    const read = async i => {
        try {
            const text = await (await chat(`You are sailor number ${i}.`, {max_tokens: 200, stream: true, logit_bias: {0: -100, 1: -100, 2: -100}})).text();
            return text.includes("data: [DONE]");
        } catch {
            return false;
        }
    };
    const before = await Promise.all(instances.map(begun));
    const streams = Array.from({length: 12}, (_, i) => read(i));
    let own;
    do {
        await sleep(5);
        own = (await Promise.all(instances.map(begun))).map((n, i) => n - before[i]);
    } while (own[0] + own[1] < 12);
    assert.ok(Math.min(...own) > 0, `shared out as ${own}`);
    instances[0].server.kill("SIGKILL");
    const whole = (await Promise.all(streams)).filter(Boolean).length;
    assert.ok(whole >= own[1], `${whole} streams came to their end, the other instance had ${own[1]}`);
    assert.ok(whole < 12, "the killed instance was done before it was killed");
    // Those that come next are all answered, also those that would have gone to it.
    for (let i = 0; i < 24; ++i) assert.equal((await chat(`You are sailor number ${i}.`)).status, 200);
});
