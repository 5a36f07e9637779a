// A dialog: the browser traps focus in it, closes it with Esc, and gives focus back afterwards.
import {useId, useLayoutEffect, useRef} from "preact/hooks";
import {IconButton} from "./icons.jsx";

export function Dialog({title, label, class: className = "", onClose, children}) {
    const ref = useRef(),
        id = useId();
    useLayoutEffect(() => {
        const dialog = ref.current;
        dialog.showModal();
        return () => dialog.close();
    }, []);
    return (
        <dialog
            ref={ref}
            class={className}
            aria-labelledby={title ? id : undefined}
            aria-label={label}
            onCancel={event => {
                event.preventDefault();
                onClose();
            }}
            onClick={event => event.target === ref.current && onClose()}
        >
            <div class="dialog-body">
                {title && (
                    <header>
                        <h2 id={id}>{title}</h2>
                        <IconButton icon="close" label="Close" onClick={onClose} />
                    </header>
                )}
                {children}
            </div>
        </dialog>
    );
}
