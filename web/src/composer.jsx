// Where the user writes; below it, how full the context is.
import {useEffect, useLayoutEffect, useRef, useState} from "preact/hooks";
import * as answers from "./answers.js";
import {integer} from "./format.js";
import {Icon} from "./icons.jsx";
import * as page from "./page.js";
import {useStore} from "./store.js";

// Keyboards on glass have no Shift+Enter.
const isTouch = () => matchMedia("(hover: none) and (pointer: coarse)").matches;

/** Tokens in the context after the last answer that told, or in the one being written. */
function usedContext(state) {
    const running = state.runs[state.current]?.stats;
    const stats = running?.prompt
        ? running
        : page.currentOf(state)?.messages.findLast(message => message.stats?.prompt)?.stats;
    return stats ? stats.prompt + stats.completion : 0;
}

function Context() {
    const used = useStore(page.store, usedContext);
    const size = useStore(page.store, page.contextSize);
    if (!size || !used) return null;
    const part = Math.min(used / size, 1),
        text = `${integer(Math.min(used, size))} of ${integer(size)} tokens of context`;
    return (
        <span class={`context ${part > 0.9 ? "nearly-full" : ""}`}>
            <span
                class="meter"
                role="meter"
                aria-label="Context used"
                aria-valuemin={0}
                aria-valuemax={size}
                aria-valuenow={Math.min(used, size)}
                aria-valuetext={text}
            >
                <span style={{width: `${part * 100}%`}} />
            </span>
            {text}
        </span>
    );
}

export function Composer() {
    const [text, setText] = useState("");
    const area = useRef();
    const current = useStore(page.store, state => state.current);
    const running = useStore(page.store, state => Boolean(state.runs[state.current]));
    const ready = useStore(page.store, state => state.ready);
    const plain = useStore(page.store, page.isPlain);
    useLayoutEffect(() => {
        area.current.style.height = "auto";
        area.current.style.height = `${area.current.scrollHeight}px`;
    }, [text]);
    useEffect(() => {
        if (!isTouch() && !document.querySelector("dialog[open]")) area.current.focus();
    }, [current]);
    const submit = event => {
        event?.preventDefault();
        if (running || !ready || !text.trim()) return;
        answers.send(plain ? text : text.trim());
        setText("");
        area.current.focus();
    };
    const onKeyDown = event => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isTouch()) submit(event);
    };
    return (
        <form class="composer" onSubmit={submit} aria-label="Message">
            <div class="composer-box">
                <textarea
                    id="composer"
                    ref={area}
                    rows={1}
                    value={text}
                    aria-label="Message"
                    enterKeyHint={isTouch() ? "enter" : "send"}
                    placeholder={plain ? "Begin a text" : "Write a message"}
                    onInput={event => setText(event.target.value)}
                    onKeyDown={onKeyDown}
                />
                {running ? (
                    <button
                        type="button"
                        class="send"
                        aria-label="Stop"
                        title="Stop (Esc)"
                        onClick={() => {
                            answers.stop(current);
                            area.current.focus();
                        }}
                    >
                        <Icon name="stop" />
                    </button>
                ) : (
                    <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!text.trim()}>
                        <Icon name="send" />
                    </button>
                )}
            </div>
            <p class="composer-end">
                <span>{running ? "Esc stops" : isTouch() ? "" : "Enter sends, Shift+Enter makes a new line"}</span>
                <Context />
            </p>
        </form>
    );
}
