// The smaller dialogs: the model, the key, help.
import {useState} from "preact/hooks";
import * as answers from "./answers.js";
import {Dialog} from "./dialog.jsx";
import {bytes, integer, modelName, parameters} from "./format.js";
import * as page from "./page.js";
import * as server from "./server.js";
import {useStore} from "./store.js";

const bitsPerWeight = ({size, n_params}) => ((size * 8) / n_params).toFixed(2);

export function ModelDialog() {
    const {model, props} = useStore(page.store, state => state.server);
    const size = useStore(page.store, page.contextSize);
    const rows = model
        ? [
              ["Name", modelName(model.id)],
              ["Parameters", parameters(model.meta.n_params)],
              ["Size", `${bytes(model.meta.size)}, ${bitsPerWeight(model.meta)} bits per weight`],
              ["Context", `${integer(size)} tokens`],
              ["Trained context", `${integer(model.meta.n_ctx_train)} tokens`],
              ["Vocabulary", `${integer(model.meta.n_vocab)} tokens`],
              ...(props ? [["Answers at once", integer(props.total_slots)]] : []),
          ]
        : [];
    return (
        <Dialog title="Model" onClose={page.closeDialog}>
            {model ? (
                <dl class="facts">
                    {rows.map(([name, value]) => (
                        <div key={name}>
                            <dt>{name}</dt>
                            <dd>{value}</dd>
                        </div>
                    ))}
                </dl>
            ) : (
                <p>The server did not say yet which model it has.</p>
            )}
            {props?.has_chat === false && (
                <p class="notice">This model has no chat template: it goes on with what you write, as plain text.</p>
            )}
            {props?.chat_template && (
                <details>
                    <summary>Chat template</summary>
                    <pre class="template" tabIndex={0}>
                        {props.chat_template}
                    </pre>
                </details>
            )}
        </Dialog>
    );
}

export function KeyDialog({retry}) {
    const [key, setKey] = useState(page.store.get().key);
    const [keep, setKeep] = useState(false);
    const [refused, setRefused] = useState(key !== "");
    const submit = async event => {
        event.preventDefault();
        if (!(await server.offerKey(key.trim(), keep))) return setRefused(true);
        page.closeDialog();
        if (retry && page.currentOf(page.store.get())?.messages.some(message => message.id === retry))
            answers.regenerate(retry);
    };
    return (
        <Dialog title="API key" onClose={page.closeDialog}>
            <form class="stack" onSubmit={submit}>
                <p>
                    This server asks for a key: the one that it was started with, <code>--api-key</code>.
                </p>
                <div class="field wide">
                    <label for="key">Key</label>
                    <input
                        id="key"
                        autoFocus
                        type="password"
                        autoComplete="off"
                        value={key}
                        aria-invalid={refused ? "true" : undefined}
                        aria-describedby="key-hint"
                        onInput={event => {
                            setKey(event.target.value);
                            setRefused(false);
                        }}
                    />
                    <p id="key-hint" class="wrong" role="alert">
                        {refused ? "The server did not accept this key." : ""}
                    </p>
                </div>
                <label class="check">
                    <input type="checkbox" checked={keep} onChange={event => setKeep(event.target.checked)} />
                    Keep it in this browser
                </label>
                <div class="row end">
                    <button type="submit" class="primary" disabled={!key.trim()}>
                        Continue
                    </button>
                </div>
            </form>
        </Dialog>
    );
}

const shortcuts = [
    ["Enter", "send the message"],
    ["Shift+Enter", "new line"],
    ["Esc", "stop the answer, close a dialog"],
    ["Ctrl+Shift+O", "new chat (⌘⇧O on a Mac)"],
    ["Ctrl+/", "this help (⌘/ on a Mac)"],
];

export function HelpDialog() {
    return (
        <Dialog title="Help" onClose={page.closeDialog}>
            <dl class="facts">
                {shortcuts.map(([keys, what]) => (
                    <div key={keys}>
                        <dt>
                            {keys.split("+").map((key, i) => (
                                <>
                                    {i > 0 && "+"}
                                    <kbd>{key}</kbd>
                                </>
                            ))}
                        </dt>
                        <dd>{what}</dd>
                    </div>
                ))}
            </dl>
            <p>Conversations are kept in this browser, and nowhere else. Export them to have a copy.</p>
            <p>The model may be wrong: check what matters.</p>
        </Dialog>
    );
}
