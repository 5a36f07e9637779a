// The report in a browser: it asks for nothing, fits a phone, and can be read in light and dark.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import {after, before, test} from "node:test";
import {pathToFileURL} from "node:url";
import {launchBrowser, skip} from "./support/browser.mjs";
import {root, shoehorn, tempDir} from "./support/shoehorn.mjs";

const dir = tempDir();
let browser;

/** What `shoehorn ARGS...` prints, as a record of the run. */
function record(name, ...args) {
    fs.writeFileSync(path.join(dir, name), shoehorn(...args));
}

before(async () => {
    if (skip) return;
    const source = path.join(root, "models/fable-10m"), text = path.join(source, "eval.txt");
    const file = name => path.join(dir, `${name}.gguf`);
    record("inspect.json", "inspect", source, "--json");
    record("convert.json", "convert", source, file("fable-F16"), "--json");
    for (const type of ["Q8_0", "Q4_K_M", "Q2_K"]) {
        const name = `fable-${type}`;
        record(`quantize-${type}.json`, "quantize", source, file(name), type, "--json");
        record(`perplexity-${type}.json`, "perplexity", "-m", file(name), "-f", text, "--chunks", "2", "--kl-base", file("fable-F16"), "--json");
        record(`bench-${type}.json`, "bench", "-m", file(name), "-p", "32", "-n", "8", "-pg", "32,8", "-r", "2", "-o", "json");
    }
    shoehorn("report", dir);
    browser = await launchBrowser();
});
after(() => browser?.close());

/** The report in a window of that width. */
async function open(width, colorScheme = "light") {
    const context = await browser.newContext({colorScheme, reducedMotion: "reduce", viewport: {width, height: 900}});
    const page = await context.newPage();
    page.asked = [];
    page.said = [];
    page.on("request", request => page.asked.push(request.url()));
    page.on("console", message => page.said.push(message.text()));
    page.on("pageerror", error => page.said.push(String(error)));
    await page.goto(pathToFileURL(path.join(dir, "report.html")).href);
    return page;
}

/** Relative luminance of a CSS colour (WCAG 2). */
function luminance(css) {
    const [r, g, b] = css.match(/[\d.]+/g).map(Number).map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
}

test("the page asks for nothing but itself, and has nothing to complain about", {skip}, async () => {
    const page = await open(1200);
    assert.equal(page.asked.length, 1, page.asked.join(" "));
    assert.deepEqual(page.said, []);
    assert.equal(await page.evaluate(() => document.compatMode), "CSS1Compat");
});

test("it fits its window, on a phone too: only tables and maps scroll, inside their boxes", {skip}, async () => {
    for (const width of [1200, 768, 390, 320]) {
        const page = await open(width);
        await page.evaluate(() => document.querySelectorAll("details").forEach(details => details.open = true));
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${width} px: ${overflow} px too wide`);
        const outside = await page.evaluate(() => [...document.querySelectorAll("main *")]
            .filter(e => !e.closest(".scroll, pre, svg") && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80)));
        assert.deepEqual(outside, [], `${width} px`);
    }
});

test("the text of plots lies inside of them", {skip}, async () => {
    const page = await open(1200);
    await page.evaluate(() => document.querySelectorAll("details").forEach(details => details.open = true));
    const cut = await page.evaluate(() => [...document.querySelectorAll("svg.chart text")].filter(text => {
        const box = text.getBoundingClientRect(), svg = text.closest("svg").getBoundingClientRect();
        return box.left < svg.left - 1 || box.right > svg.right + 1 || box.top < svg.top - 1 || box.bottom > svg.bottom + 1;
    }).map(text => text.textContent));
    assert.deepEqual(cut, []);
});

test("text stands out in light and in dark", {skip}, async () => {
    const background = {};
    for (const scheme of ["light", "dark"]) {
        const page = await open(1200, scheme);
        const pairs = await page.evaluate(() => {
            const card = getComputedStyle(document.querySelector("section")).backgroundColor;
            const colour = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
            return {
                card,
                pairs: [
                    [colour("td", "color"), card], [colour("thead th", "color"), card], [colour("section a, nav a", "color"), colour("body", "backgroundColor")],
                    [colour("svg text", "fill"), card], [colour("svg .axis-title", "fill"), card], [colour(".soft", "color"), colour("body", "backgroundColor")],
                    [colour("svg .on-bar", "fill"), colour("rect.c1", "fill")], [colour("svg .on-bar", "fill"), colour("rect.c2", "fill")],
                ],
            };
        });
        background[scheme] = luminance(pairs.card);
        for (const [a, b] of pairs.pairs) assert.ok(contrast(a, b) >= 4.5, `${scheme}: ${a} on ${b} is ${contrast(a, b).toFixed(2)}`);
    }
    assert.ok(background.light > 0.8 && background.dark < 0.1);
});

test("it can be read by ear and by keyboard", {skip}, async () => {
    const page = await open(1200);
    const facts = await page.evaluate(() => ({
        lang: document.documentElement.lang,
        headings: [...document.querySelectorAll("h1, h2")].map(h => h.tagName),
        sections: [...document.querySelectorAll("section")].every(s => document.getElementById(s.getAttribute("aria-labelledby"))?.tagName === "H2"),
        plots: [...document.querySelectorAll("svg.chart")].every(svg => svg.getAttribute("role") === "img" && svg.getAttribute("aria-label").length > 5),
        tables: [...document.querySelectorAll("table")].every(t => t.getAttribute("aria-label") && t.querySelector("th[scope=col]") && t.querySelector("th[scope=row]")),
        boxes: [...document.querySelectorAll(".scroll")].every(box => box.tabIndex === 0),
    }));
    assert.equal(facts.lang, "en");
    assert.equal(facts.headings.filter(h => h === "H1").length, 1);
    assert.ok(facts.sections && facts.plots && facts.tables && facts.boxes, JSON.stringify(facts));
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    for (const link of await page.locator("nav a").all()) {
        await link.click();
        const target = (await link.getAttribute("href")).slice(1);
        assert.ok(await page.evaluate(id => Math.abs(document.getElementById(id).getBoundingClientRect().top) < innerHeight, target), target);
    }
});

test("plots and tables show the figures that were measured", {skip}, async () => {
    const page = await open(1200);
    const measured = JSON.parse(fs.readFileSync(path.join(dir, "perplexity-Q4_K_M.json"), "utf8"));
    const row = await page.locator("#quality tbody tr", {hasText: "fable-Q4_K_M"}).locator("td").allTextContents();
    assert.ok(Math.abs(parseFloat(row[0]) - measured.ppl) < 1e-3 * measured.ppl, row[0]);
    assert.ok(Math.abs(parseFloat(row[1]) - measured.kld_mean) < 1e-3 * measured.kld_mean, row[1]);
    const marks = await page.locator("#quality figure", {hasText: "KL divergence over size"}).locator(".mark title").allTextContents();
    assert.equal(marks.length, 3);
    // Further right is larger, further up is worse.
    const at = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#quality figure:first-of-type .chart .mark")]
        .map(mark => [mark.textContent.split(":")[0], mark.getBoundingClientRect()]).map(([name, box]) => [name, [box.x, box.y]])));
    assert.ok(at["fable-Q2_K"][0] < at["fable-Q4_K_M"][0] && at["fable-Q4_K_M"][0] < at["fable-Q8_0"][0]);
    assert.ok(at["fable-Q2_K"][1] < at["fable-Q4_K_M"][1] && at["fable-Q4_K_M"][1] < at["fable-Q8_0"][1]);
});
