// Every chat template must give the prompt that @huggingface/jinja gives, byte for byte.
import assert from "node:assert/strict";
import {execFileSync} from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {mock, suite, test} from "node:test";
import {Template} from "@huggingface/jinja";
import {root, shared} from "./support/shoehorn.mjs";

const renderer = path.resolve(root, process.env.SHOEHORN_BUILD ?? "build", "tests/render_template");
const now = [2025, 2, 3, 14, 5, 9];

const user = {role: "user", content: "Hello, how are you?"};
const weatherArguments = {city: "Paris", days: 2, deep: {x: [1, 2.5, null, true]}};
const searchArguments = {query: "q \"quoted\" <b>", tags: ["a", "b"]};
const call = (id, name, args) => ({id, type: "function", function: {name, arguments: args}});
const answer = (id, name, content) => ({role: "tool", tool_call_id: id, name, content});
const weather = call("abcdefg12", "get_weather", weatherArguments);
const search = call("hijklmn34", "search", searchArguments);
const tools = [
    {type: "function", function: {
        name: "get_weather", description: "The weather \"now\" & <b>then</b>",
        parameters: {type: "object", required: ["city"], properties: {
            city: {type: "string", description: "Name of the city, größer als ein Dorf"},
            unit: {type: "string", enum: ["celsius", "fahrenheit"]},
            days: {type: "integer", default: 3}
        }}
    }},
    {type: "function", function: {
        name: "search", description: "Searches the web",
        parameters: {type: "object", required: ["query", "tags"], properties: {
            query: {type: "string", description: "What to look for"},
            limits: {type: "object", properties: {max: {type: "number"}}},
            tags: {type: "array", items: {type: "string"}}
        }}
    }}
];

const conversations = {
    "one question": {messages: [user]},
    "a system prompt": {messages: [{role: "system", content: "  Be brief. "}, user]},
    "several turns": {messages: [
        {role: "system", content: "You are helpful."}, user, {role: "assistant", content: "Fine, thanks."},
        {role: "user", content: "Größe? 你好 🙂 <tag> & \"q\" 'a' {{ x }}"}, {role: "assistant", content: "\n  spaced \n"},
        {role: "user", content: "again"}
    ]},
    "several turns without a system prompt": {messages: [user, {role: "assistant", content: "Fine."}, {role: "user", content: "again"}]},
    "no generation prompt": {
        messages: [{role: "system", content: "S"}, user, {role: "assistant", content: "Fine."}], add_generation_prompt: false
    },
    "tools": {messages: [{role: "system", content: "S"}, user], tools},
    "tools without a system prompt": {messages: [user], tools},
    "a tool call and its answer": {
        messages: [
            {role: "system", content: "S"}, user, {role: "assistant", content: "", tool_calls: [weather]},
            answer("abcdefg12", "get_weather", "{\"temp\": 21}"), {role: "assistant", content: "21 degrees."},
            {role: "user", content: "thanks"}
        ], tools
    },
    "a tool call with its arguments as text": {
        messages: [
            user, {role: "assistant", content: "", tool_calls: [call("abcdefg12", "get_weather", JSON.stringify(weatherArguments))]},
            answer("abcdefg12", "get_weather", "{\"temp\": 21}")
        ], tools
    },
    "a tool call without content": {
        messages: [user, {role: "assistant", content: null, tool_calls: [weather]}, answer("abcdefg12", "get_weather", "sunny")], tools
    },
    "two tool calls at once": {
        messages: [
            user, {role: "assistant", content: "Let me.", tool_calls: [weather, search]},
            answer("abcdefg12", "get_weather", "sunny"), answer("hijklmn34", "search", "found"),
            {role: "assistant", content: "ok"}, {role: "user", content: "and now?"}
        ], tools
    },
    "content in parts": {messages: [
        {role: "user", content: [{type: "text", text: "Look "}, {type: "text", text: "here"}]},
        {role: "assistant", content: [{type: "text", text: "yes"}]}, {role: "user", content: [{type: "text", text: "ok"}]}
    ]},
    "thoughts in the answer": {messages: [
        user, {role: "assistant", content: "<think>\nhmm\n</think>\n\n  Answer."}, {role: "user", content: "more"}
    ]},
    "thoughts beside the answer": {messages: [
        user, {role: "assistant", content: "Answer.", reasoning_content: "hmm", thinking: "hm"}, {role: "user", content: "more"}
    ]},
    "thinking off": {messages: [user], enable_thinking: false, thinking: false},
    "thinking on": {messages: [user], enable_thinking: true, thinking: true, reasoning_effort: "high"}
};

// Where the oracle fails by itself, not by raise_exception(), and we render. Elsewhere we fail too.
const weRender = [
    {template: /Seed-OSS/, oracle: /Object keys must be strings/},
    {template: /command-r-plus-tool_use|Hermes/, oracle: /in for loop: got UndefinedValue/},  // over tools, without any
    {template: /Hermes/, oracle: /filter "trim" to type: UndefinedValue/},
    {template: /Apriel/, oracle: /Unknown ObjectValue filter: string/},
    {template: /Apriel/, oracle: /filter "length" to type: UndefinedValue/},
    {template: /GigaChat3/, oracle: /not a function: got ObjectValue/},  // a key called "items" hides the method
    {template: /functionary-medium-v3.1/, oracle: /"selectattr" to type: NullValue/},
    {template: /functionary-medium-v3.2/, oracle: /non-iterable type: TupleValue/},
    {template: /Kimi-K2/, oracle: /not a function: got UndefinedValue/},  // list.append()
    {template: /DeepSeek-V(3.2|4)/, oracle: /filter: from_json/},
    {template: /Devstral/, oracle: /Cannot access property with non-string/},
    {template: /./, oracle: /Unknown ArrayValue filter: trim/},
    {template: /./, oracle: /Cannot apply filter "trim" to type: NullValue/}
];

function oracle(template, inputs) {
    try {
        return {ok: true, text: new Template(template).render(inputs)};
    } catch (error) {
        return {ok: false, error: error.message};
    }
}

function render(jobs) {
    const lines = jobs.map(job => JSON.stringify({...job, now})).join("\n");
    return execFileSync(renderer, {input: lines, encoding: "utf8", maxBuffer: 1 << 28}).trimEnd().split("\n").map(line => JSON.parse(line));
}

const pythonJson = value => {
    if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${pythonJson(v)}`).join(", ")}}`;
};

function compare(name, inputs, theirs, ours) {
    if (theirs.ok) {
        // Added to a string, a list of parts and the arguments of a call come out of the oracle as JavaScript's own text.
        if (!ours.ok && /a string \+ a list|a list \+ a string/.test(ours.error)) {
            assert.ok(inputs.messages.some(message => Array.isArray(message.content)), ours.error);
            return;
        }
        const calls = inputs.messages.flatMap(message => message.tool_calls ?? []);
        let next = 0;
        const expected = theirs.text.replaceAll("[object Map]", () => pythonJson(calls[next++].function.arguments));
        assert.ok(ours.ok, `we fail: ${ours.error}`);
        assert.equal(ours.text, expected);
        return;
    }
    if (!ours.ok && ours.error.endsWith(`: ${theirs.error}`)) return;  // raise_exception()
    const byItself = /^([Cc]annot|Unknown|Expected|Object keys)/.test(theirs.error);
    const outcome = ours.ok ? "render" : `say "${ours.error}"`;
    assert.ok(byItself, `the template raises "${theirs.error}", but we ${outcome}`);
    const listed = weRender.some(row => row.template.test(name) && row.oracle.test(theirs.error));
    assert.ok(ours.ok ? listed : !/unknown (filter|test|tag)/.test(ours.error), `the oracle says "${theirs.error}", we ${outcome}`);
}

/** Name -> source, of the folder's files and of the two files of cases. */
function readTemplates(folder) {
    const found = new Map();
    for (const entry of fs.readdirSync(folder, {recursive: true}).sort()) {
        const file = path.join(folder, entry);
        if (entry.endsWith(".jinja")) found.set(entry, fs.readFileSync(file, "utf8"));
        if (!/^chat-template-cases.*\.json$/.test(entry)) continue;
        for (const {name, template_str: source} of JSON.parse(fs.readFileSync(file, "utf8")).cases) found.set(`${entry}: ${name}`, source);
    }
    return found;
}

suite("chat templates", () => {
    test("every template gives the oracle's prompt for every conversation", async t => {
        const folder = shared(t, "data/templates");
        if (folder === undefined) return;
        mock.timers.enable({apis: ["Date"], now: new Date(now[0], now[1] - 1, ...now.slice(2))});
        const cases = JSON.parse(fs.readFileSync(path.join(folder, "chat-template-cases.json"), "utf8"));
        const all = {...conversations, "the messages of the cases": {messages: cases.messages}};
        for (const [name, template] of readTemplates(folder)) {
            await t.test(name, async t => {
                const jobs = Object.values(all).map(inputs =>
                    ({template, inputs: {bos_token: "<s>", eos_token: "</s>", add_generation_prompt: true, ...inputs}}));
                const results = render(jobs);
                assert.equal(results.length, jobs.length);
                for (const [i, title] of Object.keys(all).entries()) {
                    await t.test(title, () => compare(name, jobs[i].inputs, oracle(template, jobs[i].inputs), results[i]));
                }
            });
        }
        mock.timers.reset();
    });
});
