// OpenAI's own client against the server.
import assert from "node:assert/strict";
import {spawn} from "node:child_process";
import path from "node:path";
import {after, before, test} from "node:test";
import {program, root, shoehorn, tempDir} from "./support/shoehorn.mjs";

const OpenAI = (await import("openai").catch(() => undefined))?.default;
const skip = OpenAI ? false : "openai is not installed";
const model = path.join(tempDir(), "fable.gguf");
const template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>";
let server, client, base;

before(async () => {
    if (skip) return;
    shoehorn("quantize", path.join(root, "models/fable-10m"), model, "Q8_0", "--no-check", "-q");
    server = spawn(program, ["serve", "-m", model, "--port", "0", "--api-key", "secret", "-np", "4", "-c", "512", "--temp", "0", "--chat-template", template, "--metrics", "-t", "1"]);
    base = await new Promise((resolve, reject) => {
        let said = "";
        server.stderr.on("data", data => {
            said += data;
            const found = /listening on (http:\/\/[0-9.:]+)/.exec(said);
            if (found) resolve(found[1]);
        });
        server.on("exit", () => reject(new Error(said)));
    });
    client = new OpenAI({baseURL: `${base}/v1`, apiKey: "secret", maxRetries: 0});
});
after(() => server?.kill("SIGINT"));

const messages = [{role: "user", content: "Hello"}];

test("models are listed", {skip}, async () => {
    const list = await client.models.list();
    assert.equal(list.data[0].id, "fable.gguf");
});

test("a chat, whole and streamed, is the same", {skip}, async () => {
    const whole = await client.chat.completions.create({model: "any", messages, max_tokens: 24});
    assert.equal(whole.choices[0].message.role, "assistant");
    assert.equal(whole.usage.completion_tokens, 24);
    const stream = await client.chat.completions.create({model: "any", messages, max_tokens: 24, stream: true, stream_options: {include_usage: true}});
    let text = "", usage, reason, pieces = 0;
    for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? "";
        reason = chunk.choices[0]?.finish_reason ?? reason;
        usage = chunk.usage ?? usage;
        ++pieces;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(reason, "length");
    assert.deepEqual(usage, whole.usage);
    assert.ok(pieces > 10, `${pieces} pieces`);
});

test("completions with stop, n and logprobs", {skip}, async () => {
    const plain = await client.completions.create({model: "any", prompt: "Once upon a time", max_tokens: 30, n: 2, temperature: 1, seed: 3, logprobs: 2});
    assert.equal(plain.choices.length, 2);
    assert.equal(plain.choices[0].logprobs.tokens.length, 30);
    const text = plain.choices[0].text, stop = text.slice(10, 14);
    const stopped = await client.completions.create({model: "any", prompt: "Once upon a time", max_tokens: 30, temperature: 1, seed: 3, stop});
    assert.equal(stopped.choices[0].text, text.slice(0, text.indexOf(stop)));
    assert.equal(stopped.choices[0].finish_reason, "stop");
});

test("errors are errors of the client's kinds", {skip}, async () => {
    await assert.rejects(client.chat.completions.create({model: "any", messages: []}), OpenAI.BadRequestError);
    await assert.rejects(client.chat.completions.create({model: "any", messages, temperature: -1}), OpenAI.BadRequestError);
    await assert.rejects(client.chat.completions.create({model: "any", messages, response_format: {type: "json_object"}}), OpenAI.BadRequestError);
    await assert.rejects(new OpenAI({baseURL: `${base}/v1`, apiKey: "wrong", maxRetries: 0}).chat.completions.create({model: "any", messages}), OpenAI.AuthenticationError);
    await assert.rejects(client.get("/nothing"), OpenAI.NotFoundError);
});

test("an aborted stream ends the answer", {skip}, async () => {
    const controller = new AbortController();
    const stream = await client.completions.create({model: "any", prompt: "Once", stream: true, max_tokens: 400, logit_bias: {0: -100}}, {signal: controller.signal});
    let pieces = 0;
    for await (const _ of stream) {
        if (++pieces === 5) controller.abort();
        if (pieces > 50) break;
    }
    const count = async () => Number(/requests_cancelled_total (\d+)/.exec(await (await fetch(`${base}/metrics`, {headers: {Authorization: "Bearer secret"}})).text())[1]);
    for (let i = 0; i < 100 && await count() < 1; ++i) await new Promise(resolve => setTimeout(resolve, 20));
    assert.equal(await count(), 1);
});

test("eight at once", {skip}, async () => {
    const answers = await Promise.all(Array.from({length: 8}, (_, i) => client.completions.create({model: "any", prompt: `Story ${i}:`, max_tokens: 16})));
    for (const answer of answers) assert.equal(answer.usage.completion_tokens, 16);
});
