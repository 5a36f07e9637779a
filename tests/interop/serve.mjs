// OpenAI's own client against the server.
import assert from "node:assert/strict";
import {readFile} from "node:fs/promises";
import {after, before, test} from "node:test";
import {startServer} from "./support/server.mjs";

const OpenAI = (await import("openai").catch(() => undefined))?.default;
const skip = OpenAI ? false : "openai is not installed";
let server, client, base;

before(async () => {
    if (skip) return;
    ({server, base} = await startServer("--api-key", "secret", "-np", "4", "--metrics"));
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
    await assert.rejects(client.chat.completions.create({model: "any", messages, response_format: {type: "xml"}}), OpenAI.BadRequestError);
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

const person = {
    type: "object", additionalProperties: false, required: ["name", "age", "friends"],
    properties: {name: {type: "string", maxLength: 10}, age: {type: "integer", minimum: 0, maximum: 120},
        friends: {type: "array", maxItems: 2, items: {type: "string", pattern: "^[A-Z][a-z]{1,5}$"}}},
};

test("answers by a schema are what it says", {skip}, async () => {
    for (const temperature of [0, 1.2]) {
        const answer = await client.chat.completions.create({model: "any", messages, temperature, seed: 5, max_tokens: 200,
            response_format: {type: "json_schema", json_schema: {name: "person", strict: true, schema: person}}});
        assert.equal(answer.choices[0].finish_reason, "stop");
        const said = JSON.parse(answer.choices[0].message.content);
        assert.deepEqual(Object.keys(said), ["name", "age", "friends"]);
        assert.ok(said.name.length <= 10 && Number.isInteger(said.age) && said.age <= 120);
        assert.ok(said.friends.length <= 2 && said.friends.every(friend => /^[A-Z][a-z]{1,5}$/.test(friend)));
    }
    await assert.rejects(client.chat.completions.create({model: "any", messages, response_format: {type: "json_schema", json_schema: {name: "x", schema: {not: {}}}}}),
        error => error.status === 400 && /"not"/.test(error.message));
});

const tools = [{type: "function", function: {name: "greet", parameters: {type: "object", required: ["who"], properties: {who: {enum: ["Ann", "Bob"]}}}}}];

test("tools, called and answered, whole and streamed", {skip}, async () => {
    const request = {model: "any", messages, tools, tool_choice: "required", max_tokens: 100};
    const whole = await client.chat.completions.create(request);
    assert.equal(whole.choices[0].finish_reason, "tool_calls");
    const call = whole.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "greet");
    assert.ok(["Ann", "Bob"].includes(JSON.parse(call.function.arguments).who));
    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    assert.deepEqual(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
    const next = await client.chat.completions.create({model: "any", tools, max_tokens: 8,
        messages: [...messages, whole.choices[0].message, {role: "tool", tool_call_id: call.id, content: "done"}]});
    assert.equal(next.choices[0].message.role, "assistant");
});

test("embeddings, alike texts nearer than others", {skip}, async () => {
    const {data, usage} = await client.embeddings.create({model: "any", input: ["A dog ran over the field.", "The dog was running across a field.", "Parliament passed the bill on taxes."]});
    assert.equal(data.length, 3);
    assert.ok(usage.prompt_tokens > 10);
    const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
    for (const {embedding} of data) assert.ok(Math.abs(dot(embedding, embedding) - 1) < 1e-4);
    assert.ok(dot(data[0].embedding, data[1].embedding) > dot(data[0].embedding, data[2].embedding));
});

test("the server is in a sandbox unless it is told not to be", {skip}, async () => {
    const kept = async process => /Seccomp:\s+(\d)/.exec(await readFile(`/proc/${process.pid}/status`, "utf8"))?.[1];
    assert.equal(await kept(server), "2");
    const open = await startServer("--no-sandbox");
    assert.equal(await kept(open.server), "0");
    open.server.kill("SIGINT");
});
