// Icons, as lines on a field of 24 by 24. They are decoration: the button around one has the name.

const paths = {
    menu: "M4 7h16M4 12h16M4 17h10",
    plus: "M12 5v14M5 12h14",
    search: "M10.5 4.5a6 6 0 1 0 0 12a6 6 0 1 0 0-12M15 15l5 5",
    pencil: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
    copy: "M9 9h10v11H9zM15 9V4H5v11h4",
    check: "M5 13l4 4L19 7",
    again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
    send: "M12 19V5M6 11l6-6l6 6",
    stop: "M7 7h10v10H7z",
    close: "M6 6l12 12M18 6L6 18",
    down: "M12 5v14M6 13l6 6l6-6",
    settings: "M4 7h9M19 7h1M16 4.5v5M4 17h3M13 17h7M10 14.5v5",
    sun: "M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1 1M18 18l1 1M5 19l1-1M18 6l1-1",
    moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
    auto: "M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16M12 4v16M12 8h6.5M12 12h8M12 16h6.5",
    help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.5M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18",
    save: "M12 4v11M7 10l5 5l5-5M5 20h14",
    open: "M12 15V4M7 9l5-5l5 5M5 20h14",
    chip: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
};

export function Icon({name}) {
    return (
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <path d={paths[name]} />
        </svg>
    );
}

const shoehorn =
    "M17 3.6c1-.9 2.6.1 2.2 1.5C17.7 9.2 15.2 12.6 13.9 16.2C13 18.9 11.2 20.6 8.6 20.6" +
    "C5.6 20.6 3.9 18.2 4.6 15.6C5.4 12.5 9.2 11.2 11.9 8.9C13.9 7.2 15.4 5.2 17 3.6z";

/** The mark of the product: a shoehorn. */
export function Mark() {
    return (
        <svg class="mark" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
            <rect width="24" height="24" rx="6.5" />
            <path d={shoehorn} />
            <path class="hollow" d="M7.3 17.4c.4-1.9 2.2-3 4.2-4.2" />
        </svg>
    );
}

/** A button that shows an icon only; `label` says what it does. */
export function IconButton({icon, label, class: className = "", ...more}) {
    return (
        <button type="button" class={`icon-button ${className}`} aria-label={label} title={label} {...more}>
            <Icon name={icon} />
        </button>
    );
}
