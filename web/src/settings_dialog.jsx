// What a request says beyond its messages. Every change counts at once; what is empty is left to the server.
import {useState} from "preact/hooks";
import {Dialog} from "./dialog.jsx";
import * as library from "./library.js";
import * as page from "./page.js";
import * as server from "./server.js";
import {defaultOf, keepKey, keyIsKept, kNumbers, numberError, schemaError, withDefaults} from "./settings.js";
import {useStore} from "./store.js";

function NumberField({field}) {
    const value = useStore(page.store, state => state.settings.numbers[field.name] ?? "");
    const props = useStore(page.store, state => state.server.props);
    const error = numberError(field, value),
        id = `set-${field.name}`;
    return (
        <div class="field">
            <label for={id}>{field.label}</label>
            <input
                id={id}
                name={field.name}
                inputMode="decimal"
                autoComplete="off"
                value={value}
                placeholder={defaultOf(field, props) || "default"}
                aria-invalid={error ? "true" : undefined}
                aria-describedby={`${id}-hint`}
                onInput={event =>
                    page.setSettings({
                        numbers: {...page.store.get().settings.numbers, [field.name]: event.target.value},
                    })
                }
            />
            <p id={`${id}-hint`} class={error ? "wrong" : "soft"}>
                {error || field.hint}
            </p>
        </div>
    );
}

function TextField({name, label, hint, error, rows, value, onInput, placeholder}) {
    const id = `set-${name}`;
    return (
        <div class="field wide">
            <label for={id}>{label}</label>
            <textarea
                id={id}
                name={name}
                rows={rows}
                value={value}
                placeholder={placeholder}
                spellcheck={name === "system"}
                aria-invalid={error ? "true" : undefined}
                aria-describedby={`${id}-hint`}
                onInput={event => onInput(event.target.value)}
            />
            <p id={`${id}-hint`} class={error ? "wrong" : "soft"}>
                {error || hint}
            </p>
        </div>
    );
}

function KeyField() {
    const key = useStore(page.store, state => state.key);
    const [keep, setKeep] = useState(keyIsKept());
    return (
        <form class="field wide" onSubmit={event => event.preventDefault()}>
            <label for="set-key">API key</label>
            <input
                id="set-key"
                type="password"
                autoComplete="off"
                value={key}
                aria-describedby="set-key-hint"
                onInput={event => {
                    page.store.set({key: event.target.value});
                    keepKey(event.target.value, keep);
                }}
                onChange={server.connect}
            />
            <p id="set-key-hint" class="soft">
                Only for a server that was started with --api-key.
            </p>
            <label class="check">
                <input
                    type="checkbox"
                    checked={keep}
                    onChange={event => {
                        setKeep(event.target.checked);
                        keepKey(key, event.target.checked);
                    }}
                />
                Keep it in this browser
            </label>
        </form>
    );
}

export function SettingsDialog() {
    const settings = useStore(page.store, state => state.settings);
    const conversation = useStore(page.store, page.currentOf);
    return (
        <Dialog title="Settings" class="panel" onClose={page.closeDialog}>
            <TextField
                name="system"
                label="System prompt"
                rows={4}
                value={conversation?.system ?? settings.system}
                onInput={library.setSystem}
                placeholder="You answer briefly."
                hint="What the model is told before this conversation and those that begin after it."
            />
            <h3>Sampling</h3>
            <p class="soft">An empty field leaves the value to the server: what it shows in grey.</p>
            <div class="fields">
                {kNumbers.map(field => (
                    <NumberField key={field.name} field={field} />
                ))}
            </div>
            <TextField
                name="stop"
                label="Stop texts"
                rows={2}
                value={settings.stop}
                onInput={stop => page.setSettings({stop})}
                hint="One a line; an answer ends before the first that comes. \n stands for the end of a line."
            />
            <details open={settings.schema !== ""}>
                <summary>Advanced</summary>
                <TextField
                    name="schema"
                    label="JSON schema of answers"
                    rows={6}
                    value={settings.schema}
                    onInput={schema => page.setSettings({schema})}
                    error={schemaError(settings.schema)}
                    placeholder={'{"type": "object", …}'}
                    hint="Answers will be JSON of this form and nothing else."
                />
                <KeyField />
            </details>
            <div class="row end">
                <button type="button" onClick={() => page.setSettings(withDefaults(settings))}>
                    Back to the defaults
                </button>
                <button type="button" class="primary" onClick={page.closeDialog}>
                    Done
                </button>
            </div>
        </Dialog>
    );
}
