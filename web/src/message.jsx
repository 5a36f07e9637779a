// One message: its text, what is known of it, and what can be done with it.
import {useEffect, useMemo, useRef, useState} from "preact/hooks";
import * as answers from "./answers.js";
import {copyText} from "./clipboard.js";
import {splitReasoning} from "./conversations.js";
import {explain} from "./errors.js";
import {integer, rate, seconds} from "./format.js";
import {IconButton} from "./icons.jsx";
import {renderMarkdown} from "./markdown.js";
import * as page from "./page.js";

const kCopiedMs = 1500,
    kOpened = Date.now();

function CopyButton({text}) {
    const [copied, setCopied] = useState(false);
    useEffect(() => {
        if (!copied) return;
        const timer = setTimeout(() => setCopied(false), kCopiedMs);
        return () => clearTimeout(timer);
    }, [copied]);
    return (
        <IconButton
            icon={copied ? "check" : "copy"}
            label={copied ? "Copied" : "Copy"}
            onClick={() =>
                copyText(text).then(
                    () => setCopied(true),
                    error => page.toast(`Nothing was copied: ${error.message}.`),
                )
            }
        />
    );
}

/** The button of a block of code is in the HTML of the text, so its clicks are heard above it. */
async function onCodeClick(event) {
    const button = event.target.closest(".copy-code");
    if (!button) return;
    try {
        await copyText(button.closest(".code").querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), kCopiedMs);
    } catch (error) {
        page.toast(`Nothing was copied: ${error.message}.`);
    }
}

/** Markdown. While it grows, pieces that are complete stay as they are: their HTML, and what the user marked in it. */
export function Markdown({text, growing}) {
    const known = useRef(new Map());
    const pieces = useMemo(() => renderMarkdown(text, growing ? known.current : new Map()), [text, growing]);
    return (
        <div class="prose" onClick={onCodeClick}>
            {pieces.map((html, i) => (
                <div key={i} class="piece" dangerouslySetInnerHTML={{__html: html}} />
            ))}
        </div>
    );
}

function Reasoning({text, open}) {
    return (
        <details class="reasoning">
            <summary>{open ? "Reasoning …" : "Reasoning"}</summary>
            <Markdown text={text} growing={open} />
        </details>
    );
}

function statsText({completion, rate: perSecond, first, prompt, context}) {
    const parts = [`${integer(completion)} token${completion === 1 ? "" : "s"}`];
    if (perSecond) parts.push(rate(perSecond));
    if (first !== undefined) parts.push(`first after ${seconds(first)}`);
    if (prompt && context)
        parts.push(`context ${integer(Math.min(prompt + completion, context))} of ${integer(context)}`);
    return parts.join(" · ");
}

/** Why an answer ends where it does, if not because the model was done. */
function endText({finish, unfinished, stats}) {
    if (unfinished) return "The page was closed before this answer was complete.";
    if (finish === "stopped") return "Stopped.";
    if (finish !== "length") return "";
    return stats?.context && stats.prompt + stats.completion >= stats.context
        ? "The context is full. Delete messages or begin a new chat to go on."
        : "Cut off at the longest answer that the settings allow.";
}

function Failure({message, onRetry}) {
    const {title, detail} = explain(message.error, message.content !== "");
    return (
        <div class="notice bad" role={message.time >= kOpened ? "alert" : undefined}>
            <div>
                <strong>{title}</strong> {detail}
            </div>
            {message.error.status === 401 ? (
                <button type="button" onClick={() => page.showDialog("key", {retry: message.id})}>
                    Enter the key
                </button>
            ) : (
                <button type="button" onClick={onRetry}>
                    Try again
                </button>
            )}
        </div>
    );
}

function Answer({message, running}) {
    const {reasoning, answer, open} = splitReasoning(message.content);
    return (
        <>
            {reasoning && <Reasoning text={reasoning} open={running && open} />}
            {message.plain ? (
                <div class="plain">{message.content}</div>
            ) : (
                answer && <Markdown text={answer} growing={running} />
            )}
        </>
    );
}

/** What stands below an answer that is being written. */
function Progress({run: {message, stats, retryIn, attempt, started}}) {
    const [, tick] = useState(0);
    const waiting = !message.content && !retryIn;
    useEffect(() => {
        if (!waiting) return;
        const timer = setInterval(() => tick(n => n + 1), 500);
        return () => clearInterval(timer);
    }, [waiting]);
    if (retryIn > 0) {
        return (
            <div class="notice" role="status">
                <div>
                    <strong>The server is busy.</strong> <span class="unseen">It will be asked again soon.</span>
                    {/* Counted down for the eye only. */}
                    <span aria-hidden="true">
                        Trying again in {retryIn} s (attempt {attempt + 1}).
                    </span>
                </div>
            </div>
        );
    }
    const elapsed = Math.round((Date.now() - started) / 1000);
    return (
        <p class="stats">
            <span class="dot" />
            {waiting ? `Reading the prompt · ${elapsed} s` : statsText(stats)}
        </p>
    );
}

function Editor({message, onEnd, onCancel}) {
    const area = useRef();
    useEffect(() => {
        const {current} = area;
        current.focus();
        current.setSelectionRange(current.value.length, current.value.length);
        current.style.height = `${Math.min(current.scrollHeight + 4, innerHeight / 2)}px`;
    }, []);
    const submit = () => {
        const text = area.current.value.trim();
        if (!text) return;
        onEnd();
        answers.edit(message.id, text);
        page.focusComposer();
    };
    return (
        <form
            class="editor"
            onSubmit={event => {
                event.preventDefault();
                submit();
            }}
        >
            <textarea
                ref={area}
                aria-label="Edit your message"
                defaultValue={message.content}
                onKeyDown={event => {
                    if (event.isComposing) return;
                    if (event.key === "Enter" && !event.shiftKey) {
                        event.preventDefault();
                        submit();
                    } else if (event.key === "Escape") {
                        event.stopPropagation();
                        onCancel();
                    }
                }}
            />
            <div class="row end">
                <button type="button" class="quiet" onClick={onCancel}>
                    Cancel
                </button>
                <button type="submit" class="primary">
                    Send
                </button>
            </div>
        </form>
    );
}

function Actions({message, last, onEdit}) {
    const own = message.role === "user";
    return (
        <div class={`actions ${last ? "last" : ""}`}>
            {message.content && <CopyButton text={own ? message.content : splitReasoning(message.content).answer} />}
            {own ? (
                <IconButton icon="pencil" label="Edit" onClick={onEdit} />
            ) : (
                <IconButton icon="again" label="Answer again" onClick={() => answers.regenerate(message.id)} />
            )}
            <IconButton
                icon="trash"
                label="Delete"
                onClick={() => {
                    answers.removeMessage(message.id);
                    page.focusComposer();
                }}
            />
        </div>
    );
}

function End({message, last, onEdit}) {
    const end = endText(message);
    return (
        <>
            {end && <p class="ending">{end}</p>}
            {message.error && <Failure message={message} onRetry={() => answers.regenerate(message.id)} />}
            <div class="message-end">
                {message.stats && <p class="stats">{statsText(message.stats)}</p>}
                <Actions message={message} last={last} onEdit={onEdit} />
            </div>
        </>
    );
}

/**
 * A message, with `run` one that is being written. It is drawn again only when it changes, and its text keeps its
 * elements when it is complete: what was unfolded or marked in it stays so.
 */
export function Message({message, run, last}) {
    const [editing, setEditing] = useState(false);
    const article = useRef();
    const own = message.role === "user";
    const cancel = () => {
        setEditing(false);
        setTimeout(() => article.current?.querySelector("[aria-label=Edit]")?.focus(), 0);
    };
    return useMemo(
        () => (
            <article
                ref={article}
                class={`message ${message.role} ${run ? "running" : ""} ${last ? "newest" : ""}`}
                aria-label={own ? "You" : "Answer"}
                aria-busy={run ? "true" : undefined}
            >
                {editing ? (
                    <Editor message={message} onEnd={() => setEditing(false)} onCancel={cancel} />
                ) : own ? (
                    <div class="bubble">{message.content}</div>
                ) : (
                    <Answer message={message} running={Boolean(run)} />
                )}
                {run && <Progress run={run} />}
                {!run && !editing && <End message={message} last={last} onEdit={() => setEditing(true)} />}
            </article>
        ),
        [message, run, last, editing],
    );
}
