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

/** An answer that is being written. */
export function Running({run}) {
    const {message, stats, retryIn, attempt, started} = run;
    const [, tick] = useState(0);
    const waiting = !message.content && !retryIn;
    useEffect(() => {
        if (!waiting) return;
        const timer = setInterval(() => tick(n => n + 1), 500);
        return () => clearInterval(timer);
    }, [waiting]);
    return (
        <article class="message assistant running" aria-label="Answer" aria-busy="true">
            <Answer message={message} running />
            {retryIn > 0 && (
                <div class="notice" role="status">
                    <div>
                        <strong>The server is busy.</strong> <span class="unseen">It will be asked again soon.</span>
                        {/* Counted down for the eye only. */}
                        <span aria-hidden="true">
                            Trying again in {retryIn} s (attempt {attempt + 1}).
                        </span>
                    </div>
                </div>
            )}
            <p class="stats">
                {waiting ? (
                    <>
                        <span class="dot" />
                        Reading the prompt · {Math.round((Date.now() - started) / 1000)} s
                    </>
                ) : (
                    !retryIn && (
                        <>
                            <span class="dot" />
                            {statsText(stats)}
                        </>
                    )
                )}
            </p>
        </article>
    );
}

function Editor({message, onEnd}) {
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
                        onEnd();
                    }
                }}
            />
            <div class="row end">
                <button type="button" class="quiet" onClick={onEnd}>
                    Cancel
                </button>
                <button type="submit" class="primary">
                    Send
                </button>
            </div>
        </form>
    );
}

function draw(message, last, editing, setEditing) {
    const own = message.role === "user",
        end = endText(message);
    const again = () => answers.regenerate(message.id);
    if (editing) return <Editor message={message} onEnd={() => setEditing(false)} />;
    return (
        <>
            {own ? <div class="bubble">{message.content}</div> : <Answer message={message} running={false} />}
            {end && <p class="ending">{end}</p>}
            {message.error && <Failure message={message} onRetry={again} />}
            <div class="message-end">
                {message.stats && <p class="stats">{statsText(message.stats)}</p>}
                <div class={`actions ${last ? "last" : ""}`}>
                    {message.content && (
                        <CopyButton text={own ? message.content : splitReasoning(message.content).answer} />
                    )}
                    {own ? (
                        <IconButton icon="pencil" label="Edit" onClick={() => setEditing(true)} />
                    ) : (
                        <IconButton icon="again" label="Answer again" onClick={again} />
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
            </div>
        </>
    );
}

/** A message that is complete. Nothing of it is drawn again unless it changes. */
export function Message({message, last}) {
    const [editing, setEditing] = useState(false);
    return useMemo(
        () => (
            <article
                class={`message ${message.role} ${last ? "newest" : ""}`}
                aria-label={message.role === "user" ? "You" : "Answer"}
            >
                {draw(message, last, editing, setEditing)}
            </article>
        ),
        [message, last, editing],
    );
}
