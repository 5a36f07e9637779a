// The list of conversations, and what is done with all of them.
import {useEffect, useMemo, useRef, useState} from "preact/hooks";
import * as answers from "./answers.js";
import {search, titleOf} from "./conversations.js";
import {dayOf} from "./format.js";
import {Icon, IconButton, Mark} from "./icons.jsx";
import * as library from "./library.js";
import * as page from "./page.js";
import {useStore} from "./store.js";

const themes = [
    ["auto", "auto", "As the system"],
    ["light", "sun", "Light"],
    ["dark", "moon", "Dark"],
];

function Entry({conversation, current, running}) {
    const [renaming, setRenaming] = useState(false);
    const name = useRef(),
        renamed = useRef(false);
    useEffect(() => {
        if (renamed.current && !renaming) name.current.focus();
        renamed.current = renaming;
    }, [renaming]);
    const title = titleOf(conversation);
    if (renaming) {
        const end = event => {
            if (renaming && event.type !== "keydown") library.rename(conversation.id, event.target.value);
            setRenaming(false);
        };
        return (
            <li class="entry">
                <input
                    class="rename"
                    aria-label="Name of the conversation"
                    defaultValue={title}
                    maxLength={200}
                    ref={input => input?.focus()}
                    onFocus={event => event.target.select()}
                    onBlur={end}
                    onKeyDown={event => {
                        if (event.key === "Enter") event.target.blur();
                        if (event.key !== "Escape") return;
                        event.preventDefault();
                        event.stopPropagation();
                        end(event);
                    }}
                />
            </li>
        );
    }
    return (
        <li class={`entry ${current ? "current" : ""}`}>
            <button
                type="button"
                class="entry-title"
                ref={name}
                aria-current={current ? "page" : undefined}
                onClick={() => library.goTo(conversation.id)}
            >
                {running && <span class="dot" role="img" aria-label="being answered" />}
                {title}
            </button>
            <span class="entry-actions">
                <IconButton icon="pencil" label={`Rename “${title}”`} onClick={() => setRenaming(true)} />
                <IconButton
                    icon="trash"
                    label={`Delete “${title}”`}
                    onClick={event => {
                        const sidebar = event.target.closest(".sidebar");
                        answers.removeConversation(conversation.id);
                        sidebar.querySelector(".new-chat").focus();
                    }}
                />
            </span>
        </li>
    );
}

function List({query}) {
    const conversations = useStore(page.store, state => state.conversations);
    const current = useStore(page.store, state => state.current);
    const running = useStore(page.store, state => Object.keys(state.runs).join());
    return useMemo(() => {
        const groups = new Map();
        for (const conversation of search(conversations, query)) {
            const day = dayOf(conversation.updated);
            groups.set(day, [...(groups.get(day) ?? []), conversation]);
        }
        if (!groups.size)
            return <p class="soft none">{query ? "Nothing was found." : "Conversations will be listed here."}</p>;
        return [...groups].map(([day, entries]) => (
            <section key={day}>
                <h3>{day}</h3>
                <ul>
                    {entries.map(conversation => (
                        <Entry
                            key={conversation.id}
                            conversation={conversation}
                            current={conversation.id === current}
                            running={running.includes(conversation.id)}
                        />
                    ))}
                </ul>
            </section>
        ));
    }, [conversations, current, running, query]);
}

function ThemeSwitch() {
    const theme = useStore(page.store, state => state.settings.theme);
    return (
        <div class="themes" role="group" aria-label="Colours">
            {themes.map(([name, icon, label]) => (
                <IconButton
                    key={name}
                    icon={icon}
                    label={label}
                    aria-pressed={theme === name}
                    onClick={() => {
                        page.setSettings({theme: name});
                        page.applyTheme();
                    }}
                />
            ))}
        </div>
    );
}

export function Sidebar({onClose}) {
    const [query, setQuery] = useState("");
    const file = useRef();
    const all = useStore(page.store, state => state.conversations);
    return (
        <div class="sidebar">
            <div class="brand">
                <Mark />
                <span>Shoehorn</span>
                {onClose && <IconButton icon="close" label="Close the list" onClick={onClose} />}
            </div>
            <button type="button" class="new-chat" onClick={library.newChat}>
                <Icon name="plus" />
                New chat
            </button>
            <div class="search">
                <Icon name="search" />
                <input
                    type="search"
                    placeholder="Search"
                    aria-label="Search conversations"
                    value={query}
                    onInput={event => setQuery(event.target.value)}
                />
            </div>
            <nav class="list" aria-label="Conversations">
                <List query={query} />
            </nav>
            <div class="sidebar-end">
                <div class="row">
                    <button type="button" class="quiet" onClick={() => file.current.click()}>
                        <Icon name="open" />
                        Import
                    </button>
                    <button
                        type="button"
                        class="quiet"
                        disabled={!all.length}
                        onClick={() => library.exportConversations(all, "shoehorn-conversations")}
                    >
                        <Icon name="save" />
                        Export all
                    </button>
                </div>
                <div class="row">
                    <ThemeSwitch />
                    <IconButton icon="help" label="Help and shortcuts" onClick={() => page.showDialog("help")} />
                </div>
                <input
                    ref={file}
                    type="file"
                    accept=".json,application/json"
                    hidden
                    aria-label="File to import"
                    onChange={event => {
                        const [chosen] = event.target.files;
                        if (chosen) library.importConversations(chosen);
                        event.target.value = "";
                    }}
                />
            </div>
        </div>
    );
}
