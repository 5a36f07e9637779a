// The page: the list beside the conversation, or in a drawer where there is no room for both.
import {useEffect, useState} from "preact/hooks";
import * as answers from "./answers.js";
import {Composer} from "./composer.jsx";
import {titleOf} from "./conversations.js";
import {Dialog} from "./dialog.jsx";
import {HelpDialog, KeyDialog, ModelDialog} from "./dialogs.jsx";
import {modelName} from "./format.js";
import {Icon, IconButton} from "./icons.jsx";
import * as library from "./library.js";
import * as page from "./page.js";
import * as server from "./server.js";
import {SettingsDialog} from "./settings_dialog.jsx";
import {Sidebar} from "./sidebar.jsx";
import {useStore} from "./store.js";
import {Thread} from "./thread.jsx";

const dialogs = {settings: SettingsDialog, model: ModelDialog, key: KeyDialog, help: HelpDialog};

function useMedia(query) {
    const [matches, setMatches] = useState(matchMedia(query).matches);
    useEffect(() => {
        const media = matchMedia(query),
            update = () => setMatches(media.matches);
        media.addEventListener("change", update);
        return () => media.removeEventListener("change", update);
    }, [query]);
    return matches;
}

function useShortcuts() {
    useEffect(() => {
        const onKeyDown = event => {
            const command = event.ctrlKey || event.metaKey,
                state = page.store.get();
            if (command && event.shiftKey && event.key.toLowerCase() === "o") {
                event.preventDefault();
                page.closeDialog();
                library.newChat();
                page.focusComposer();
            } else if (command && event.key === "/") {
                event.preventDefault();
                page.showDialog("help");
            } else if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) {
                answers.stop(state.current);
            }
        };
        addEventListener("keydown", onKeyDown);
        return () => removeEventListener("keydown", onKeyDown);
    }, []);
}

function Header({narrow}) {
    const conversation = useStore(page.store, page.currentOf);
    const model = useStore(page.store, state => state.server.model);
    const title = conversation ? titleOf(conversation) : "New chat";
    useEffect(() => {
        document.title = conversation ? `${title} – Shoehorn` : "Shoehorn";
    }, [conversation, title]);
    return (
        <header class="top">
            {narrow && <IconButton icon="menu" label="Conversations" onClick={() => page.setDrawer(true)} />}
            <div class="titles">
                <h1>{title}</h1>
                <button type="button" class="model" title="About the model" onClick={() => page.showDialog("model")}>
                    <Icon name="chip" />
                    <span>{model ? modelName(model.id) : "Model"}</span>
                </button>
            </div>
            {narrow && <IconButton icon="plus" label="New chat" onClick={library.newChat} />}
            {conversation && !narrow && (
                <IconButton
                    icon="save"
                    label="Export this chat"
                    onClick={() => library.exportConversations([conversation], title)}
                />
            )}
            <IconButton icon="settings" label="Settings" onClick={() => page.showDialog("settings")} />
        </header>
    );
}

/** What holds for the page as a whole and not for one answer. */
function Banner() {
    const {state, props} = useStore(page.store, state => state.server);
    const lasting = useStore(page.store, state => state.lasting);
    if (state === "down") {
        return (
            <div class="banner bad" role="alert">
                <span>
                    <strong>The server does not answer.</strong> Start “shoehorn serve” again: this page keeps trying.
                </span>
                <button type="button" onClick={server.connect}>
                    Try now
                </button>
            </div>
        );
    }
    if (state === "forbidden")
        return (
            <div class="banner bad" role="alert">
                <span>
                    <strong>The server does not let this page in.</strong> Open it by the server's own address.
                </span>
            </div>
        );
    if (state === "key") {
        return (
            <div class="banner" role="status">
                <span>This server asks for an API key.</span>
                <button type="button" onClick={() => page.showDialog("key")}>
                    Enter the key
                </button>
            </div>
        );
    }
    if (props?.has_chat === false)
        return (
            <div class="banner" role="status">
                <span>This model has no chat template: it goes on with what you write, as plain text.</span>
            </div>
        );
    if (!lasting)
        return (
            <div class="banner" role="status">
                <span>This browser keeps no data: conversations end with the page.</span>
            </div>
        );
    return null;
}

function Toast() {
    const toast = useStore(page.store, state => state.toast);
    return (
        <div class="toast-place" role="status">
            {toast && (
                <div class="toast">
                    <span>{toast.text}</span>
                    {toast.undo && (
                        <button
                            type="button"
                            onClick={() => {
                                toast.undo();
                                page.closeToast();
                            }}
                        >
                            Undo
                        </button>
                    )}
                    <IconButton icon="close" label="Dismiss" onClick={page.closeToast} />
                </div>
            )}
        </div>
    );
}

export function App() {
    const narrow = useMedia("(max-width: 800px)");
    const drawer = useStore(page.store, state => state.drawer);
    const dialog = useStore(page.store, state => state.dialog);
    const announcement = useStore(page.store, state => state.announcement);
    const Shown = dialog && dialogs[dialog.name];
    useShortcuts();
    return (
        <div class="page">
            <a
                class="skip"
                href="#composer"
                onClick={event => {
                    event.preventDefault();
                    page.focusComposer();
                }}
            >
                Skip to the message
            </a>
            {!narrow && (
                <aside aria-label="Conversations">
                    <Sidebar />
                </aside>
            )}
            {narrow && drawer && (
                <Dialog class="drawer" label="Conversations" onClose={() => page.setDrawer(false)}>
                    <Sidebar onClose={() => page.setDrawer(false)} />
                    <Toast />
                </Dialog>
            )}
            <main>
                <Header narrow={narrow} />
                <Banner />
                <Thread />
                <Composer />
                {!(narrow && drawer) && <Toast />}
            </main>
            {Shown && <Shown key={dialog.name} {...dialog} />}
            <div class="unseen" aria-live="polite">
                {announcement}
            </div>
        </div>
    );
}
