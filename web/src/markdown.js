// Markdown of the model as HTML that is safe to show: no HTML of its own, no images, links to the web and to mail only.
import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import go from "highlight.js/lib/languages/go";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import {Marked} from "marked";

const languages = {bash, cpp, css, go, javascript, json, markdown, python, rust, sql, typescript, xml, yaml};
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(["c", "h"], {languageName: "cpp"});
hljs.registerAliases(["shell", "console"], {languageName: "bash"});

const kLink = /^(?:https?:\/\/|mailto:)/i;

const escapes = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"};
const escape = text => text.replace(/[&<>"']/g, character => escapes[character]);

function link(href, html) {
    return kLink.test(href) ? `<a href="${escape(href)}">${html}</a>` : html;
}

function codeBlock(text, info) {
    const name = (info ?? "").trim().split(/\s+/, 1)[0];
    const html = hljs.getLanguage(name)
        ? hljs.highlight(text, {language: name, ignoreIllegals: true}).value
        : escape(text);
    return (
        `<div class="code"><div class="code-head"><span>${escape(name || "text")}</span>` +
        `<button type="button" class="copy-code">Copy</button></div>` +
        `<pre tabindex="0"><code>${html}</code></pre></div>`
    );
}

const marked = new Marked({
    gfm: true,
    breaks: true,
    // Without these, what looks like HTML is text.
    tokenizer: {html: () => undefined, tag: () => undefined},
    renderer: {
        code: ({text, lang}) => codeBlock(text, lang),
        image: ({href, text}) => link(href, escape(text || "image")),
        checkbox: ({checked}) => (checked ? "☑ " : "☐ "),
        link({href, tokens}) {
            return link(href, this.parser.parseInline(tokens));
        },
        // The page has its own headings above those of an answer.
        heading({tokens, depth}) {
            const level = Math.min(depth + 2, 6);
            return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
        },
        table({header, rows}) {
            const cell = (tag, {align, tokens}) =>
                `<${tag}${align ? ` align="${align}"` : ""}>${this.parser.parseInline(tokens)}</${tag}>`;
            const row = (tag, cells) => `<tr>${cells.map(one => cell(tag, one)).join("")}</tr>`;
            const body = rows.map(cells => row("td", cells)).join("");
            return (
                `<div class="scroll" tabindex="0" role="region" aria-label="Table">` +
                `<table><thead>${row("th", header)}</thead><tbody>${body}</tbody></table></div>`
            );
        },
    },
});

DOMPurify.addHook("afterSanitizeAttributes", node => {
    if (node.nodeName !== "A") return;
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
});

const kPolicy = {
    ALLOWED_TAGS: [
        "a",
        "blockquote",
        "br",
        "button",
        "code",
        "del",
        "div",
        "em",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "span",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ],
    ALLOWED_ATTR: ["align", "aria-label", "class", "href", "role", "start", "tabindex", "type"],
    ALLOWED_URI_REGEXP: kLink,
    // All but href: their values are no addresses.
    ADD_URI_SAFE_ATTR: ["align", "aria-label", "start", "tabindex", "type"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
};

/**
 * A text as a list of pieces of HTML, one per paragraph, list, block of code ... Those that `known` (a Map that the
 * caller keeps) has already are taken from it, so that an answer that grows costs its last piece only.
 */
export function renderMarkdown(text, known = new Map()) {
    const before = new Map(known);
    known.clear();
    return marked
        .lexer(text)
        .filter(token => token.type !== "space")
        .map(token => {
            const html = before.get(token.raw) ?? DOMPurify.sanitize(marked.parser([token]), kPolicy);
            known.set(token.raw, html);
            return html;
        });
}
