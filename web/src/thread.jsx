// The messages of a conversation, scrolled along with an answer until the reader scrolls up.
import {useCallback, useEffect, useLayoutEffect, useRef, useState} from "preact/hooks";
import * as answers from "./answers.js";
import {bytes, modelName, parameters} from "./format.js";
import {Icon, IconButton, Mark} from "./icons.jsx";
import {Message} from "./message.jsx";
import * as page from "./page.js";
import {useStore} from "./store.js";

const kNearEnd = 40,
    kFirst = 20,
    kMore = 40;

/** Keeps the end of `content` in view in `box`, until the user goes elsewhere. */
function useFollow(id) {
    const box = useRef(),
        content = useRef(),
        last = useRef(0),
        following = useRef(true);
    const [away, setAway] = useState(false);
    const follow = useCallback(() => {
        following.current = true;
        setAway(false);
        box.current.scrollTop = box.current.scrollHeight;
    }, []);
    useLayoutEffect(follow, [id]);
    useEffect(() => {
        const observer = new ResizeObserver(() => following.current && follow());
        observer.observe(content.current);
        observer.observe(box.current);
        return () => observer.disconnect();
    }, []);
    const onScroll = () => {
        const {scrollTop, scrollHeight, clientHeight} = box.current;
        const atEnd = scrollHeight - scrollTop - clientHeight < kNearEnd;
        // Content that grows below the view is no scrolling up.
        if (atEnd) following.current = true;
        else if (scrollTop < last.current) following.current = false;
        last.current = scrollTop;
        setAway(!atEnd && !following.current);
    };
    return {box, content, away, follow, onScroll};
}

/**
 * The first message that is drawn: the end of a long conversation is there at once, its beginning a moment later.
 */
function useGradual(id, count) {
    const [{of, drawn}, setDrawn] = useState({of: id, drawn: kFirst});
    const now = of === id ? drawn : kFirst;
    useEffect(() => {
        if (now === Infinity) return;
        const timer = setTimeout(() => setDrawn({of: id, drawn: now + kMore < count ? now + kMore : Infinity}), 0);
        return () => clearTimeout(timer);
    }, [id, now, count]);
    return Math.max(0, count - now);
}

function Welcome() {
    const {model, state} = useStore(page.store, state => state.server);
    const plain = useStore(page.store, page.isPlain);
    return (
        <div class="welcome">
            <Mark />
            <h2>{model ? modelName(model.id) : "Shoehorn"}</h2>
            <p>
                {model ? `${parameters(model.meta.n_params)} parameters in ${bytes(model.meta.size)}. ` : ""}
                {state === "loading"
                    ? "Asking the server …"
                    : plain
                      ? "Begin a text, and the model goes on with it."
                      : "Ask something. What you write goes to this server only; conversations stay in this browser."}
            </p>
        </div>
    );
}

export function Thread() {
    const ready = useStore(page.store, state => state.ready);
    const conversation = useStore(page.store, page.currentOf);
    const run = useStore(page.store, state => state.runs[state.current]);
    const messages = conversation?.messages ?? [];
    const {box, content, away, follow, onScroll} = useFollow(conversation?.id);
    const begin = useGradual(conversation?.id, messages.length);
    // A question that was just asked is looked at, wherever the reader was.
    useLayoutEffect(() => {
        if (run) follow();
    }, [run?.started]);
    const open = !run && messages.at(-1)?.role === "user";
    return (
        <div class="thread-box">
            <div class="thread" ref={box} onScroll={onScroll} tabIndex={0} role="region" aria-label="Messages">
                <div class="messages" ref={content}>
                    {ready && !messages.length && !run && <Welcome />}
                    {(run ? [...messages, run.message] : messages).slice(begin).map((message, i, drawn) => (
                        <Message
                            key={message.id}
                            message={message}
                            run={message === run?.message ? run : undefined}
                            last={i === drawn.length - 1}
                        />
                    ))}
                    {open && (
                        <p class="open-question">
                            <button type="button" onClick={() => answers.ask(conversation.id)}>
                                <Icon name="again" />
                                Answer
                            </button>
                        </p>
                    )}
                </div>
            </div>
            {away && <IconButton icon="down" label="To the end" class="to-end" onClick={follow} />}
        </div>
    );
}
