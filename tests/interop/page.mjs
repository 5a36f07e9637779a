// The chat page in a browser, against the server that it comes from.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import {after, before, test} from "node:test";
import {launchBrowser, skip} from "./support/browser.mjs";
import {startServer} from "./support/server.mjs";
import {root, tempDir} from "./support/shoehorn.mjs";

const kChat = "**/v1/chat/completions";
let server, browser, base;

before(async () => {
    if (skip) return;
    ({server, base} = await startServer("-np", "2", "-n", "40"));
    browser = await launchBrowser();
});
after(async () => {
    await browser?.close();
    server?.kill("SIGINT");
});

/** The page in a browser of its own, with what it asked for and what it said. `prepare` comes before it loads. */
async function open(t, options = {}, prepare = async () => {}) {
    const context = await browser.newContext({
        reducedMotion: "reduce",
        viewport: {width: 1280, height: 800},
        ...options,
    });
    t.after(() => context.close());
    context.setDefaultTimeout(10_000);
    const page = await context.newPage();
    page.asked = [];
    page.said = [];
    page.on("request", request => page.asked.push(request.url()));
    page.on("console", message => page.said.push(message.text()));
    page.on("pageerror", error => page.said.push(String(error)));
    await prepare(page);
    page.response = await page.goto(`${base}/`);
    await page.locator(".model", {hasText: "fable"}).waitFor();
    return page;
}

const answers = page => page.locator(".message.assistant:not(.running)");
const composer = page => page.locator("#composer");
const button = (page, name) => page.getByRole("button", {name, exact: true});
const titles = page => page.locator(".entry-title").allTextContents();

/** Asks, and waits until the answer is complete: its text. */
async function ask(page, text) {
    const count = await answers(page).count();
    await composer(page).fill(text);
    await composer(page).press("Enter");
    return answered(page, count + 1);
}

async function answered(page, count) {
    await page.waitForFunction(
        n =>
            document.querySelectorAll(".message.assistant:not(.running)").length === n &&
            !document.querySelector(".running"),
        count,
    );
    return answers(page)
        .nth(count - 1)
        .innerText();
}

const event = data => `data: ${JSON.stringify(data)}\n\n`;

/** A stream of completions with this text. */
function streamOf(text) {
    const pieces = text
        .match(/[\s\S]{1,7}/g)
        .map(content => event({choices: [{index: 0, delta: {content}, finish_reason: null}]}));
    return {
        contentType: "text/event-stream",
        body: [
            ...pieces,
            event({choices: [{index: 0, delta: {}, finish_reason: "stop"}]}),
            event({choices: [], usage: {prompt_tokens: 20, completion_tokens: pieces.length}}),
            "data: [DONE]\n\n",
        ].join(""),
    };
}

const say = (page, text) => page.route(kChat, route => route.fulfill(streamOf(text)));
const refuse = (status, message, headers = {}) => ({
    status,
    headers,
    contentType: "application/json",
    body: JSON.stringify({error: {message}}),
});

/** Has answers come at 50 tokens a second and never end. */
const slow = page =>
    page.addInitScript(() => {
        const real = fetch;
        window.fetch = (url, options) => {
            if (!String(url).endsWith("chat/completions")) return real(url, options);
            const {signal} = options,
                encoder = new TextEncoder();
            return Promise.resolve(
                new Response(
                    new ReadableStream({
                        async start(controller) {
                            signal.addEventListener("abort", () =>
                                controller.error(new DOMException("aborted", "AbortError")),
                            );
                            for (let i = 0; !signal.aborted; ++i) {
                                controller.enqueue(
                                    encoder.encode(
                                        `data: ${JSON.stringify({choices: [{delta: {content: `word${i} `}}]})}\n\n`,
                                    ),
                                );
                                await new Promise(resolve => setTimeout(resolve, 20));
                            }
                        },
                    }),
                ),
            );
        };
    });

/** Relative luminance of a CSS colour (WCAG 2). */
function luminance(css) {
    const [r, g, b] = css
        .match(/[\d.]+/g)
        .map(Number)
        .map(c => c / 255)
        .map(c => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
}

test(
    "the page asks its own server only, has nothing to complain about, and may run nothing but its script",
    {skip},
    async t => {
        const page = await open(t);
        await ask(page, "Hello");
        assert.deepEqual(
            page.asked.filter(url => !url.startsWith(base) && !url.startsWith("data:")),
            [],
        );
        assert.deepEqual(page.said, []);
        const policy = page.response.headers()["content-security-policy"],
            own = await page.locator("meta[http-equiv]").getAttribute("content");
        assert.match(policy, /default-src 'none'.*frame-ancestors 'none'/);
        assert.equal(/script-src [^;]*/.exec(policy)[0], /script-src [^;]*/.exec(own)[0]);
        assert.equal(
            await page.evaluate(() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
                return window.ran;
            }),
            undefined,
        );
    },
);

test("an answer streams in, is what the server says, and comes with its figures", {skip}, async t => {
    const page = await open(t);
    const sent = page.waitForRequest(kChat);
    const shown = await ask(page, "Tell me a story");
    const body = (await sent).postDataJSON();
    assert.equal(body.stream, true);
    assert.equal(body.stream_options.include_usage, true);
    assert.deepEqual(body.messages, [{role: "user", content: "Tell me a story"}]);
    const whole = await (
        await fetch(`${base}/v1/chat/completions`, {
            method: "POST",
            body: JSON.stringify({...body, stream: false, stream_options: undefined}),
        })
    ).json();
    const letters = text => text.replace(/[^a-z]/gi, "");
    assert.ok(letters(shown).startsWith(letters(whole.choices[0].message.content)), shown);
    const {prompt_tokens, completion_tokens} = whole.usage;
    const stats = await page.locator(".stats").innerText();
    assert.match(
        stats,
        new RegExp(
            `^${completion_tokens} tokens · [\\d.,]+ tokens/s · first after [\\d.]+ s · ` +
                `context ${prompt_tokens + completion_tokens} of 512$`,
        ),
    );
    await ask(page, "And then?");
    assert.deepEqual(await page.locator(".bubble").allTextContents(), ["Tell me a story", "And then?"]);
});

test("stop keeps what came, and so does a page that is closed in the middle of an answer", {skip}, async t => {
    const page = await open(t, {}, slow);
    await composer(page).fill("Go on");
    await composer(page).press("Enter");
    await page.locator(".running", {hasText: "word7"}).waitFor();
    assert.match(await page.locator(".running .stats").innerText(), /tokens · [\d.]+ tokens\/s/);
    await page.locator(".running .prose").evaluate(prose => (prose.dataset.known = "yes"));
    await button(page, "Stop").click();
    assert.match(await answered(page, 1), /^word0 .*word7[\s\S]*Stopped\./);
    assert.equal(await page.locator(".prose[data-known]").count(), 1, "its elements are still the same");
    await page.waitForFunction(() => document.activeElement.id === "composer");

    await composer(page).fill("Go on again");
    await composer(page).press("Enter");
    await page.locator(".running", {hasText: "word5"}).waitFor();
    await page.reload();
    await answers(page).nth(1).waitFor();
    assert.match(
        await answers(page).nth(1).innerText(),
        /^word0 .*word5[\s\S]*The page was closed before this answer was complete/,
    );
    assert.equal(await page.locator(".running").count(), 0);
});

test("a reload shows the conversation as it was", {skip}, async t => {
    const page = await open(t);
    const answer = await ask(page, "Hello");
    await page.reload();
    await answers(page).first().waitFor();
    assert.equal(await answers(page).first().innerText(), answer);
    assert.deepEqual(await titles(page), ["Hello"]);
});

test("a question is worded anew and answered again from there; both can be taken back", {skip}, async t => {
    const page = await open(t);
    let n = 0;
    const bodies = [];
    await page.route(kChat, route => {
        bodies.push(
            route
                .request()
                .postDataJSON()
                .messages.map(message => message.content),
        );
        return route.fulfill(streamOf(`answer ${++n}`));
    });
    await ask(page, "first");
    await ask(page, "second");
    await page.locator(".message.user").first().hover();
    await page.locator(".message.user").first().getByRole("button", {name: "Edit"}).click();
    await page.locator("[aria-label='Edit your message']:focus").waitFor();
    await page.keyboard.type(", but better");
    await page.keyboard.press("Enter");
    await page.locator(".prose", {hasText: "answer 3"}).waitFor();
    assert.deepEqual(await page.locator(".bubble").allTextContents(), ["first, but better"]);
    await page.locator("#composer:focus").waitFor();
    await page.locator(".message.assistant").getByRole("button", {name: "Answer again"}).click();
    await page.locator(".prose", {hasText: "answer 4"}).waitFor();
    assert.deepEqual(bodies.slice(2), [["first, but better"], ["first, but better"]]);
    await button(page, "Undo").click();
    await page.locator(".prose", {hasText: "answer 3"}).waitFor();
    await page.locator(".message.user").getByRole("button", {name: "Delete"}).click();
    assert.equal(await page.locator(".message").count(), 0);
    await button(page, "Undo").click();
    assert.equal(await page.locator(".message").count(), 2);
});

test("conversations are begun, found, named, switched and deleted", {skip}, async t => {
    const page = await open(t);
    await say(page, "Yes.");
    await ask(page, "About apples");
    await button(page, "New chat").click();
    await page.waitForFunction(() => document.activeElement.id === "composer");
    await ask(page, "About pears");
    assert.deepEqual(await titles(page), ["About pears", "About apples"]);
    await page.getByLabel("Search conversations").fill("APPLES");
    assert.deepEqual(await titles(page), ["About apples"]);
    await page.locator(".entry-title").click();
    assert.equal(await page.locator("h1").innerText(), "About apples");
    await page.getByLabel("Search conversations").fill("");
    await button(page, "Rename “About apples”").click();
    await page.keyboard.type("Fruit");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("h1").innerText(), "Fruit");
    await page.goBack();
    assert.equal(await page.locator("h1").innerText(), "About pears");
    await page.locator(".entry", {hasText: "Fruit"}).hover();
    await button(page, "Delete “Fruit”").click();
    assert.deepEqual(await titles(page), ["About pears"]);
    await button(page, "Undo").click();
    assert.deepEqual((await titles(page)).sort(), ["About pears", "Fruit"]);
    await page.reload();
    await page.locator(".entry").first().waitFor();
    assert.deepEqual((await titles(page)).sort(), ["About pears", "Fruit"]);
});

test("another tab sees what changed", {skip}, async t => {
    const page = await open(t);
    await say(page, "Yes.");
    const other = await page.context().newPage();
    await other.goto(`${base}/`);
    await ask(page, "In both");
    await other.locator(".entry", {hasText: "In both"}).click();
    await other.locator(".message.assistant", {hasText: "Yes."}).waitFor();
});

test("what is exported can be imported, and other files are refused", {skip}, async t => {
    const page = await open(t);
    await say(page, "An **answer**.");
    await ask(page, "A question");
    const download = page.waitForEvent("download");
    await button(page, "Export all").click();
    const file = path.join(tempDir(), "export.json");
    await (await download).saveAs(file);
    await button(page, "Delete “A question”").click();
    const chosen = page.locator("input[type=file]");
    await chosen.setInputFiles(file);
    await page.locator(".prose strong", {hasText: "answer"}).waitFor();
    assert.deepEqual(await titles(page), ["A question"]);
    for (const [text, reason] of [
        ["{", "not JSON"],
        ["{}", "not exported here"],
        ['{"format": "shoehorn-conversations", "conversations": [{"messages": [{"role": "x"}]}]}', "not of this form"],
    ]) {
        await chosen.setInputFiles({name: "other.json", mimeType: "application/json", buffer: Buffer.from(text)});
        await page.locator(".toast", {hasText: reason}).waitFor();
    }
    assert.equal((await titles(page)).length, 1);
});

test("settings reach the request; an empty field leaves the server's default, which it shows", {skip}, async t => {
    const page = await open(t);
    const settings = {
        temperature: "0.7",
        top_p: "0,9",
        top_k: "20",
        min_p: "0.1",
        repeat_penalty: "1.1",
        presence_penalty: "0.5",
        frequency_penalty: "-0.5",
        max_tokens: "12",
        seed: "7",
    };
    await button(page, "Settings").click();
    const field = name => page.locator(`dialog [name=${name}]`);
    assert.equal(await field("top_k").getAttribute("placeholder"), "40");
    assert.equal(await field("min_p").getAttribute("placeholder"), "0.05");
    assert.equal(await field("max_tokens").getAttribute("placeholder"), "40");
    for (const [name, value] of Object.entries(settings)) await field(name).fill(value);
    await field("system").fill("You are a pirate.");
    await field("stop").fill("END\n\\n\\n");
    await page.locator("summary", {hasText: "Advanced"}).click();
    await field("schema").fill('{"type": ');
    assert.match(await page.locator("#set-schema-hint").innerText(), /not JSON/);
    await field("schema").fill('{"type": "object", "properties": {"a": {"type": "integer"}}}');
    await field("top_p").fill("2");
    assert.equal(await page.locator("#set-top_p-hint").innerText(), "from 0 to 1");
    await field("top_p").fill("0,9");
    await button(page, "Done").click();
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Settings");

    const sent = page.waitForRequest(kChat);
    await ask(page, "Ahoy");
    const body = (await sent).postDataJSON();
    for (const [name, value] of Object.entries(settings))
        assert.equal(body[name], Number(value.replace(",", ".")), name);
    assert.deepEqual(body.messages, [
        {role: "system", content: "You are a pirate."},
        {role: "user", content: "Ahoy"},
    ]);
    assert.deepEqual(body.stop, ["END", "\n\n"]);
    assert.deepEqual(body.response_format.json_schema.schema.properties, {a: {type: "integer"}});

    await page.reload();
    await button(page, "Settings").click();
    assert.equal(await field("temperature").inputValue(), "0.7");
    await button(page, "Back to the defaults").click();
    assert.equal(await field("temperature").inputValue(), "");
    await page.keyboard.press("Escape");
    const again = page.waitForRequest(kChat);
    await ask(page, "Once more");
    assert.deepEqual(Object.keys((await again).postDataJSON()).sort(), [
        "messages",
        "model",
        "stream",
        "stream_options",
    ]);
});

test("Markdown is set, code is highlighted and copied", {skip}, async t => {
    const page = await open(t, {permissions: ["clipboard-read", "clipboard-write"]});
    const code = 'def f(x: int) -> str:\n    return "<b>" + str(x)  # a < b && c';
    const text = [
        "# Title",
        "Some *soft* and **strong** text, `code`.",
        "| a | b |\n|---|--:|\n| 1 | 2 |",
        "- [x] done\n- [ ] open",
        `\`\`\`python\n${code}\n\`\`\``,
        "[a link](https://example.org/?a=1&b=2)",
    ].join("\n\n");
    await say(page, text);
    await ask(page, "Show me");
    const prose = page.locator(".prose");
    assert.equal(await prose.locator("h3").innerText(), "Title");
    assert.equal(await prose.locator("strong").innerText(), "strong");
    assert.deepEqual(await prose.locator("td").allTextContents(), ["1", "2"]);
    assert.deepEqual(
        (await prose.locator("li").allInnerTexts()).map(item => item.trim()),
        ["☑ done", "☐ open"],
    );
    assert.equal(await prose.locator("pre code").textContent(), code);
    assert.ok((await prose.locator(".hljs-keyword").count()) >= 2);
    const link = prose.locator("a");
    assert.equal(await link.getAttribute("href"), "https://example.org/?a=1&b=2");
    assert.equal(await link.getAttribute("rel"), "noopener noreferrer");
    assert.equal(await link.getAttribute("target"), "_blank");
    await button(prose, "Copy").click();
    await button(prose, "Copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), code);
    await button(page.locator(".actions.last"), "Copy").click();
    await button(page.locator(".actions.last"), "Copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
    // By plain HTTP from another machine a page has no clipboard.
    await page.evaluate(() => Object.defineProperty(navigator, "clipboard", {value: undefined}));
    await button(prose, "Copy").click();
    await button(prose, "Copied").waitFor();
    await composer(page).focus();
    await page.keyboard.press("Control+V");
    assert.equal(await composer(page).inputValue(), code);
});

test("nothing that a model writes runs, loads or leads astray", {skip}, async t => {
    const page = await open(t);
    const hostile = [
        "<script>window.ran = 1</script>",
        '<img src=x onerror="window.ran = 2">',
        '<svg onload="window.ran = 3"><a xlink:href="javascript:window.ran=4">x</a></svg>',
        "[js](javascript:window.ran=5)",
        "[data](data:text/html,<script>window.ran=6</script>)",
        "[tab](java\tscript:window.ran=7)",
        "[entity](javascript&#58;window.ran=8)",
        "[here](/props)",
        "![image](https://example.org/pixel.png)",
        "<https://example.org/ok>",
        "<javascript:window.ran=9>",
        '<iframe src="https://example.org"></iframe>',
        "<style>body { display: none }</style>",
        '<form action="https://example.org"><button>x</button></form>',
        '```"><img src=x onerror=window.ran=10>\ncode\n```',
        "<pre>\n<img src=x onerror=window.ran=11>",
        'a <b onclick="window.ran = 12">b</b>',
        '[title](https://example.org "\\" onmouseover=\\"window.ran=13")',
        "| <img src=x onerror=window.ran=14> |\n|---|\n| <script>window.ran=15</script> |",
        "<!-- a comment -->",
    ].join("\n\n");
    await say(page, hostile);
    await ask(page, '<img src=x onerror="window.ran = 16">');
    await page.reload();
    await page.locator(".prose").waitFor();
    for (const link of await page.locator(".prose a").all()) await link.hover();
    assert.equal(await page.evaluate(() => window.ran), undefined);
    const found = await page.evaluate(() => {
        const all = [...document.querySelectorAll(".message *")];
        return {
            tags: [...new Set(all.map(e => e.localName))].filter(tag =>
                ["script", "img", "iframe", "style", "form", "b", "svg:a"].includes(tag),
            ),
            handlers: all
                .flatMap(e => [...e.attributes].map(a => a.name))
                .filter(name => name.startsWith("on") || name === "style"),
            links: [...document.querySelectorAll(".message a")].map(a => a.getAttribute("href")),
            text: document.querySelector(".prose").innerText,
        };
    });
    assert.deepEqual(found.tags, []);
    assert.deepEqual(found.handlers, []);
    for (const link of found.links) assert.match(link, /^https:\/\/example\.org/);
    for (const link of ["https://example.org/ok", "https://example.org/pixel.png"])
        assert.ok(found.links.includes(link), link);
    assert.ok(
        found.text.includes("<script>window.ran = 1</script>") && found.text.includes("<!-- a comment -->"),
        found.text,
    );
    assert.equal(await page.locator(".bubble").innerText(), '<img src=x onerror="window.ran = 16">');
    assert.deepEqual(
        page.asked.filter(url => !url.startsWith(base) && !url.startsWith("data:")),
        [],
    );
});

test("reasoning is folded away, and is not told to the model again", {skip}, async t => {
    const page = await open(t);
    await say(page, "<think>\nTwo and two ...\n</think>\n\nFour.");
    await ask(page, "2 + 2?");
    assert.equal(await page.locator(".reasoning").evaluate(details => details.open), false);
    assert.equal(await page.locator(".assistant > .prose").innerText(), "Four.");
    await page.locator(".reasoning summary").click();
    assert.equal(await page.locator(".reasoning .prose").innerText(), "Two and two ...");
    const sent = page.waitForRequest(kChat);
    await ask(page, "Sure?");
    assert.equal((await sent).postDataJSON().messages[1].content, "Four.");
});

test("a busy server is asked again when it says to, and not for ever", {skip}, async t => {
    const page = await open(t);
    let asked = 0;
    await page.route(kChat, route =>
        route.fulfill(++asked === 1 ? refuse(503, "the line is full", {"Retry-After": "1"}) : streamOf("At last.")),
    );
    await composer(page).fill("Hello");
    await composer(page).press("Enter");
    await page.locator(".running .notice", {hasText: "The server is busy"}).waitFor();
    assert.match(await answered(page, 1), /At last\./);
    assert.equal(asked, 2);
    await page.unroute(kChat);
    await page.route(kChat, route => route.fulfill(refuse(503, "shutting down")));
    assert.match(await ask(page, "Hello again"), /The server is busy\.[\s\S]*Try again/);
});

test("a key is asked for, and kept only if that is wished", {skip}, async t => {
    const guard = page =>
        page.route(/\/(props|v1\/chat\/completions)$/, route =>
            route.request().headers().authorization === "Bearer secret"
                ? route.continue()
                : route.fulfill(refuse(401, "no or a wrong API key")),
        );
    const page = await open(t, {}, guard);
    const dialog = page.locator("dialog", {hasText: "API key"});
    await dialog.locator("#key:focus").waitFor();
    await page.keyboard.press("Escape");
    await ask(page, "Hello");
    await dialog.waitFor();
    await dialog.getByLabel("Key", {exact: true}).fill("wrong");
    await page.keyboard.press("Enter");
    await dialog.getByText("The server did not accept this key.").waitFor();
    await dialog.getByLabel("Key", {exact: true}).fill("secret");
    await page.keyboard.press("Enter");
    await page.locator(".assistant .stats", {hasText: "tokens"}).waitFor();
    assert.equal(await answers(page).count(), 1);
    assert.ok(!(await page.evaluate(() => JSON.stringify(localStorage)).then(kept => kept.includes("secret"))));
    await page.reload();
    await dialog.getByLabel("Key", {exact: true}).fill("secret");
    await dialog.getByLabel("Keep it in this browser").check();
    await page.keyboard.press("Enter");
    await dialog.waitFor({state: "detached"});
    await page.reload();
    await page.locator(".assistant .stats").waitFor();
    await ask(page, "Still there?");
    assert.equal(await dialog.count(), 0);
    const blocked = page.said.filter(text => text.includes("Content Security Policy"));
    assert.deepEqual(blocked, []);
});

test("errors say what happened and what to do", {skip}, async t => {
    const page = await open(t);
    assert.match(
        await ask(page, "word ".repeat(800)),
        /no longer fits into the context[\s\S]*512[\s\S]*begin a new chat/,
    );
    await button(page, "New chat").click();
    await page.route("**/v1/**", route => route.abort());
    assert.match(await ask(page, "Anyone?"), /The server does not answer\.[\s\S]*shoehorn serve/);
    await page.locator(".banner", {hasText: "The server does not answer"}).waitFor();
    await page.unroute("**/v1/**");
    await button(page, "Try now").click();
    await page.locator(".banner").waitFor({state: "detached"});
    await button(page, "Try again").click();
    await page.locator(".assistant .stats", {hasText: "tokens/s"}).waitFor();
    await page.route(kChat, route =>
        route.fulfill({contentType: "text/event-stream", body: event({choices: [{delta: {content: "Half an"}}]})}),
    );
    assert.match(await ask(page, "More"), /Half an[\s\S]*The connection ended before the answer did/);
    await page.unroute(kChat);
    await page.route(kChat, route => route.fulfill(refuse(400, "temperature must be at least 0")));
    assert.match(await ask(page, "More"), /refused this request\.[\s\S]*Temperature must be at least 0/);
});

test("a model without a chat template goes on with plain text", {skip}, async t => {
    const page = await open(t, {}, page =>
        page.route("**/props", async route => {
            const response = await route.fetch();
            await route.fulfill({response, json: {...(await response.json()), has_chat: false}});
        }),
    );
    await page.locator(".banner", {hasText: "no chat template"}).waitFor();
    const sent = page.waitForRequest("**/v1/completions");
    await ask(page, "Once upon a time");
    assert.equal((await sent).postDataJSON().prompt, "Once upon a time");
    assert.ok((await page.locator(".plain").innerText()).length > 10);
});

test("the model is described", {skip}, async t => {
    const page = await open(t);
    await page.locator(".model").click();
    const facts = await page.locator("dialog .facts").innerText();
    for (const fact of ["fable", "9.7 million", "MiB", "512 tokens"])
        assert.ok(facts.includes(fact), `${fact}: ${facts}`);
    await page.locator("dialog summary").click();
    assert.match(await page.locator("dialog pre").innerText(), /message/);
});

test("it follows an answer until the reader scrolls up", {skip}, async t => {
    const page = await open(t, {viewport: {width: 320, height: 400}}, slow);
    await composer(page).fill("Go on");
    await composer(page).press("Enter");
    const fromEnd = () => page.locator(".thread").evaluate(box => box.scrollHeight - box.scrollTop - box.clientHeight);
    await page.waitForFunction(() => document.querySelector(".thread").scrollHeight > 700);
    assert.ok((await fromEnd()) < 60);
    await page.locator(".thread").hover();
    await page.mouse.wheel(0, -200);
    await button(page, "To the end").waitFor();
    const before = await page.locator(".thread").evaluate(box => box.scrollTop);
    await page.waitForTimeout(500);
    assert.equal(await page.locator(".thread").evaluate(box => box.scrollTop), before);
    await button(page, "To the end").click();
    await page.waitForTimeout(300);
    assert.ok((await fromEnd()) < 60);
});

test("a phone shows all of it, with the list in a drawer", {skip}, async t => {
    for (const width of [390, 320]) {
        const page = await open(t, {viewport: {width, height: 740}, hasTouch: true, isMobile: true});
        await say(
            page,
            `${"long".repeat(60)}\n\n\`\`\`\n${"x = 1; ".repeat(40)}\n\`\`\`\n\n` +
                `|${" a column |".repeat(12)}\n|${"---|".repeat(12)}\n|${" 12345 |".repeat(12)}`,
        );
        const fits = async what => {
            const wide = await page.evaluate(() =>
                [document.documentElement, ...document.querySelectorAll(".thread, dialog")]
                    .filter(box => box.scrollWidth > box.clientWidth)
                    .map(box => `${box.className || box.localName}: ${box.scrollWidth}`),
            );
            assert.deepEqual(wide, [], `${what}, ${width} px`);
        };
        await fits("empty");
        await composer(page).fill("word".repeat(100));
        await button(page, "Send").tap();
        await answered(page, 1);
        await fits("with an answer");
        for (const name of ["Settings", "Conversations"]) {
            await button(page, name).tap();
            await page.locator("dialog[open]").waitFor();
            await fits(name);
            await page.keyboard.press("Escape");
            await page.locator("dialog[open]").waitFor({state: "detached"});
        }
        assert.equal(await page.locator("aside").count(), 0);
        await button(page, "New chat").tap();
        assert.equal(await page.locator(".message").count(), 0);
        await button(page, "Conversations").tap();
        await page.locator("dialog .entry-title").tap();
        await page.locator("dialog").waitFor({state: "detached"});
        assert.equal(await page.locator(".message").count(), 2);
    }
});

test("text stands out in light and in dark; the switch goes before the system", {skip}, async t => {
    for (const scheme of ["light", "dark"]) {
        const page = await open(t, {colorScheme: scheme});
        await say(
            page,
            'Text, `code`, [link](https://example.org)\n\n```python\ndef f(): return "text", 1 # comment\n```',
        );
        await ask(page, "Hello");
        const pairs = await page.evaluate(() => {
            const background = element => {
                for (let e = element; e; e = e.parentElement) {
                    const {backgroundColor} = getComputedStyle(e);
                    if (!/rgba\(.*, 0\)/.test(backgroundColor)) return backgroundColor;
                }
                return getComputedStyle(document.documentElement).backgroundColor;
            };
            return [...document.querySelectorAll("body *")]
                .filter(
                    e =>
                        [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) &&
                        e.checkVisibility() &&
                        !e.closest("style, script, :disabled"),
                )
                .map(e => [e.className || e.localName, getComputedStyle(e).color, background(e)]);
        });
        assert.ok(pairs.length > 15);
        for (const [name, a, b] of pairs)
            assert.ok(contrast(a, b) >= 4.5, `${scheme}, ${name}: ${a} on ${b} is ${contrast(a, b).toFixed(2)}`);
        const body = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
        assert.ok(scheme === "dark" ? luminance(await body()) < 0.1 : luminance(await body()) > 0.8);
        await button(page, scheme === "dark" ? "Light" : "Dark").click();
        await page.reload();
        assert.ok(scheme === "dark" ? luminance(await body()) > 0.8 : luminance(await body()) < 0.1);
    }
});

test("it can be used by keyboard alone", {skip}, async t => {
    const page = await open(t, {}, slow);
    const focused = () =>
        page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label"));
    assert.equal(await focused(), "composer");
    await page.keyboard.type("one");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("two");
    assert.equal(await composer(page).inputValue(), "one\ntwo");
    await page.keyboard.press("Enter");
    await page.locator(".running", {hasText: "word2"}).waitFor();
    assert.equal(await composer(page).inputValue(), "");
    await page.keyboard.press("Escape");
    await answered(page, 1);
    assert.equal(await page.locator(".bubble").innerText(), "one\ntwo");
    await page.keyboard.press("Control+Shift+O");
    assert.equal(await page.locator(".message").count(), 0);
    assert.equal(await focused(), "composer");
    await page.keyboard.press("Control+/");
    assert.match(await page.locator("dialog").innerText(), /Shift\s*\+\s*Enter/);
    // Focus stays in the dialog, and comes back from it.
    for (let i = 0; i < 4; ++i) {
        await page.keyboard.press("Tab");
        assert.ok(
            await page.evaluate(
                () => document.activeElement === document.body || Boolean(document.activeElement.closest("dialog")),
            ),
        );
    }
    await page.keyboard.press("Escape");
    assert.equal(await focused(), "composer");
    const first = page.locator("a, button, input, textarea").first();
    assert.equal(await first.innerText(), "Skip to the message");
    await first.focus();
    assert.ok((await first.boundingBox()).y >= 0);
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "composer");
});

test("it can be read by ear", {skip}, async t => {
    const page = await open(t);
    await say(page, "An answer, at last.");
    await ask(page, "Hello");
    assert.equal(await page.locator("[aria-live=polite]").textContent(), "Answer: An answer, at last.");
    await button(page, "Settings").click();
    await page.locator("summary", {hasText: "Advanced"}).click();
    const facts = await page.evaluate(() => ({
        lang: document.documentElement.lang,
        h1: document.querySelectorAll("h1").length,
        landmarks: ["main", "nav[aria-label]", "aside[aria-label]", "header", "dialog[aria-labelledby]"].filter(
            selector => !document.querySelector(selector),
        ),
        articles: [...document.querySelectorAll("article")].map(article => article.getAttribute("aria-label")),
        nameless: [...document.querySelectorAll("button, input, textarea, summary, a")]
            .filter(e => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim()))
            .map(e => e.outerHTML.slice(0, 100)),
        ids: [...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i),
    }));
    assert.deepEqual(facts, {lang: "en", h1: 1, landmarks: [], articles: ["You", "Answer"], nameless: [], ids: []});
});

test("five hundred messages stay quick", {skip}, async t => {
    const page = await open(t);
    const messages = Array.from({length: 500}, (_, i) => ({
        role: i % 2 ? "assistant" : "user",
        content: `Message ${i}\n\n\`\`\`python\nprint(${i})\n\`\`\`\n\n- a\n- b`,
    }));
    const file = {format: "shoehorn-conversations", version: 1, conversations: [{title: "Long", system: "", messages}]};
    await page
        .locator("input[type=file]")
        .setInputFiles({name: "long.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(file))});
    await answers(page).nth(249).waitFor();
    await say(page, "word ".repeat(200));
    const began = performance.now();
    await ask(page, "And now?");
    assert.ok(performance.now() - began < 5000, `${performance.now() - began} ms`);
});

const built = fs.existsSync(path.join(root, "web/node_modules/esbuild"));
test(
    "web/page.html is what web/build.mjs makes of the source",
    {skip: built ? false : "web/node_modules is absent: npm ci in web"},
    async () => {
        const {makePage} = await import(path.join(root, "web/build.mjs"));
        const page = fs.readFileSync(path.join(root, "web/page.html"), "utf8");
        assert.ok((await makePage()) === page, "run `node build.mjs` in web");
        assert.ok(page.length < 250_000);
    },
);
