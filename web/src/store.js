// One value that components follow: set() replaces parts of it and tells those who read them.
import {useEffect, useState} from "preact/hooks";

export function createStore(state) {
    const listeners = new Set();
    return {
        get: () => state,
        set(patch) {
            state = {...state, ...(typeof patch === "function" ? patch(state) : patch)};
            for (const listener of [...listeners]) listener();
        },
        subscribe(listener) {
            listeners.add(listener);
            return () => listeners.delete(listener);
        },
    };
}

/** What `select` makes of the store; the component is drawn again when that is another value. */
export function useStore(store, select) {
    const [, draw] = useState(0);
    const selected = select(store.get());
    useEffect(() => {
        let last = selected;
        const check = () => {
            const next = select(store.get());
            if (Object.is(last, next)) return;
            last = next;
            draw(n => n + 1);
        };
        check();
        return store.subscribe(check);
    }, [selected]);
    return selected;
}
