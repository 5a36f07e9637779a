// The page: the list beside the conversation, or in a drawer where there is no room for both.
import {useEffect, useState} from "preact/hooks";
import * as chat from "./chat.js";
import {Composer} from "./composer.jsx";
import {titleOf} from "./conversations.js";
import {Dialog} from "./dialog.jsx";
import {HelpDialog, KeyDialog, ModelDialog} from "./dialogs.jsx";
import {modelName} from "./format.js";
import {Icon, IconButton} from "./icons.jsx";
import {SettingsDialog} from "./settings_dialog.jsx";
import {Sidebar} from "./sidebar.jsx";
import {useStore} from "./store.js";
import {Thread} from "./thread.jsx";

const dialogs = {settings: SettingsDialog, model: ModelDialog, key: KeyDialog, help: HelpDialog};

function useMedia(query) {
    const [matches, setMatches] = useState(matchMedia(query).matches);
    useEffect(() => {
        const media = matchMedia(query), update = () => setMatches(media.matches);
        media.addEventListener("change", update);
        return () => media.removeEventListener("change", update);
    }, [query]);
    return matches;
}

function useShortcuts() {
    useEffect(() => {
        const onKeyDown = event => {
            const command = event.ctrlKey || event.metaKey, state = chat.store.get();
            if (command && event.shiftKey && event.key.toLowerCase() === "o") {
                event.preventDefault();
                chat.closeDialog();
                chat.newChat();
                document.getElementById("composer").focus();
            } else if (command && event.key === "/") {
                event.preventDefault();
                chat.showDialog("help");
            } else if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) {
                chat.stop(state.current);
            }
        };
        addEventListener("keydown", onKeyDown);
        return () => removeEventListener("keydown", onKeyDown);
    }, []);
}

function Header({narrow}) {
    const conversation = useStore(chat.store, chat.currentOf);
    const model = useStore(chat.store, state => state.server.model);
    const title = conversation ? titleOf(conversation) : "New chat";
    useEffect(() => {
        document.title = conversation ? `${title} – Shoehorn` : "Shoehorn";
    }, [conversation, title]);
    return (
        <header class="top">
            {narrow && <IconButton icon="menu" label="Conversations" onClick={() => chat.setDrawer(true)} />}
            <div class="titles">
                <h1>{title}</h1>
                <button type="button" class="model" title="About the model" onClick={() => chat.showDialog("model")}>
                    <Icon name="chip" /><span>{model ? modelName(model.id) : "Model"}</span>
                </button>
            </div>
            {narrow && <IconButton icon="plus" label="New chat" onClick={chat.newChat} />}
            {conversation && !narrow && <IconButton icon="save" label="Export this chat" onClick={() => chat.exportConversations([conversation], title)} />}
            <IconButton icon="settings" label="Settings" onClick={() => chat.showDialog("settings")} />
        </header>
    );
}

/** What holds for the page as a whole and not for one answer. */
function Banner() {
    const {state, props} = useStore(chat.store, state => state.server);
    const lasting = useStore(chat.store, state => state.lasting);
    if (state === "down") {
        return <div class="banner bad" role="alert">
            <span><strong>The server does not answer.</strong> Start “shoehorn serve” again; this page looks for it every few seconds.</span>
            <button type="button" onClick={chat.connect}>Try now</button>
        </div>;
    }
    if (state === "forbidden")
        return <div class="banner bad" role="alert"><span><strong>The server does not let this page in.</strong> Open it by the server's own address.</span></div>;
    if (state === "key") {
        return <div class="banner" role="status">
            <span>This server asks for an API key.</span>
            <button type="button" onClick={() => chat.showDialog("key")}>Enter the key</button>
        </div>;
    }
    if (props?.has_chat === false)
        return <div class="banner" role="status"><span>This model has no chat template: it goes on with what you write, as plain text.</span></div>;
    if (!lasting) return <div class="banner" role="status"><span>This browser keeps no data: conversations end with the page.</span></div>;
    return null;
}

function Toast() {
    const toast = useStore(chat.store, state => state.toast);
    return (
        <div class="toast-place" role="status">
            {toast && <div class="toast">
                <span>{toast.text}</span>
                {toast.undo && <button type="button" onClick={() => {
                    toast.undo();
                    chat.closeToast();
                }}>Undo</button>}
                <IconButton icon="close" label="Dismiss" onClick={chat.closeToast} />
            </div>}
        </div>
    );
}

export function App() {
    const narrow = useMedia("(max-width: 800px)");
    const drawer = useStore(chat.store, state => state.drawer);
    const dialog = useStore(chat.store, state => state.dialog);
    const announcement = useStore(chat.store, state => state.announcement);
    const Shown = dialog && dialogs[dialog.name];
    useShortcuts();
    return (
        <div class="page">
            <a class="skip" href="#composer" onClick={event => {
                event.preventDefault();
                document.getElementById("composer").focus();
            }}>Skip to the message</a>
            {!narrow && <aside aria-label="Conversations"><Sidebar /></aside>}
            {narrow && drawer && <Dialog class="drawer" label="Conversations" onClose={() => chat.setDrawer(false)}>
                <Sidebar onClose={() => chat.setDrawer(false)} />
                <Toast />
            </Dialog>}
            <main>
                <Header narrow={narrow} />
                <Banner />
                <Thread />
                <Composer />
            </main>
            {Shown && <Shown key={dialog.name} {...dialog} />}
            {!(narrow && drawer) && <Toast />}
            <div class="unseen" aria-live="polite">{announcement}</div>
        </div>
    );
}
