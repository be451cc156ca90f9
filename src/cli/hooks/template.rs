//! The files of a new hook, compiled in.

use clap::ValueEnum;

use crate::hooks::WIT;
use crate::model::{HookName, Side};

/// A language to write hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// WebAssembly text: needs no tools
    Wat,
    /// Rust: needs cargo and the target wasm32-unknown-unknown
    Rust,
    /// JavaScript: needs node and npm
    Js,
    /// Python: needs python3 with pip
    Python,
}

macro_rules! files {
    ($($path:literal from $source:literal,)*) => {
        &[$(($path, include_str!(concat!("../../../plugins/", $source))),)*]
    };
}

type Files = &'static [(&'static str, &'static str)];

const EVERY: Files = files! {
    "hook.toml" from "templates/hook.toml",
    "tests.json" from "templates/tests.json",
    "README.md" from "templates/README.md",
    ".gitignore" from "templates/gitignore",
};

const RUST: Files = files! {
    "Cargo.toml" from "templates/rust/Cargo.toml",
    "src/lib.rs" from "templates/rust/src/lib.rs",
};

/// Copied as they are: the hook needs no registry to find the SDK.
const RUST_SDK: Files = files! {
    "sdk/Cargo.toml" from "sdk/Cargo.toml",
    "sdk/src/lib.rs" from "sdk/src/lib.rs",
    "sdk/src/bindings.rs" from "sdk/src/bindings.rs",
    "sdk/src/host.rs" from "sdk/src/host.rs",
    "sdk/src/item.rs" from "sdk/src/item.rs",
    "sdk/src/log.rs" from "sdk/src/log.rs",
    "sdk/src/settings.rs" from "sdk/src/settings.rs",
    "sdk/src/testing.rs" from "sdk/src/testing.rs",
};

const JS: Files = files! {
    "hook.js" from "templates/js/hook.js",
    "package.json" from "templates/js/package.json",
};

const PYTHON: Files = files! {
    "hook.py" from "templates/python/hook.py",
    "requirements.txt" from "templates/python/requirements.txt",
};

const WAT: Files = files! {
    "hook.wat" from "templates/wat/hook.wat",
};

/// How JavaScript becomes a component; kept with what is installed, not with the hook.
pub(super) const JS_BUILD: &str = include_str!("../../../plugins/templates/js/build.mjs");

impl Language {
    const ALL: [Self; 4] = [Self::Wat, Self::Rust, Self::Js, Self::Python];

    /// The file that says that a folder's hook is written in this language.
    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::Wat => "hook.wat",
            Self::Rust => "Cargo.toml",
            Self::Js => "hook.js",
            Self::Python => "hook.py",
        }
    }

    /// The language of a folder with the files that `has` knows.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|language| has(language.source()))
    }

    const fn files(self) -> Files {
        match self {
            Self::Wat => WAT,
            Self::Rust => RUST,
            Self::Js => JS,
            Self::Python => PYTHON,
        }
    }

    const fn needs(self) -> &'static str {
        match self {
            Self::Wat => "A hook in WAT needs no tools: edit `hook.wat`, test it, push it.",
            Self::Rust => {
                "Rust needs cargo and its target: `rustup target add wasm32-unknown-unknown`. `cargo test` runs the hook's own tests \
                 natively; `sdk` is the SDK, a copy."
            }
            Self::Js => {
                "JavaScript needs node and npm; the first build installs componentize-js from npm, once."
            }
            Self::Python => {
                "Python needs python3 with venv; the first build installs componentize-py into a virtual environment, once."
            }
        }
    }
}

/// The files of a new hook: paths within its folder, and texts.
pub(super) fn files(name: &HookName, language: Language, side: Side) -> Vec<(&'static str, String)> {
    let (does, cased, pass, refuse, number) = match side {
        Side::Enqueue => (
            "Refuses items with an empty payload.",
            "Enqueue",
            "keep",
            "reject",
            "5",
        ),
        Side::Dequeue => (
            "Drops items with an empty payload instead of delivering them.",
            "Dequeue",
            "deliver",
            "drop",
            "4",
        ),
    };
    let (cased_pass, cased_refuse) = match side {
        Side::Enqueue => ("Keep", "Reject"),
        Side::Dequeue => ("Deliver", "Drop"),
    };
    let source = match language {
        Language::Rust => "src/lib.rs",
        other => other.source(),
    };
    let instance = match language {
        Language::Js => "warm",
        // Python keeps a copy of each payload, so that long-lived instances fill up.
        Language::Wat | Language::Rust | Language::Python => "fresh",
    };
    let words = [
        ("{{name}}", name.as_str()),
        ("{{does}}", does),
        ("{{side}}", side.as_str()),
        ("{{Side}}", cased),
        ("{{pass}}", pass),
        ("{{Pass}}", cased_pass),
        ("{{refuse}}", refuse),
        ("{{Refuse}}", cased_refuse),
        ("{{number}}", number),
        ("{{topic}}", "orders"),
        ("{{source}}", source),
        ("{{instance}}", instance),
        ("{{needs}}", language.needs()),
    ];
    let filled = |text: &str| {
        words
            .iter()
            .fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    };
    let mut files: Vec<_> = EVERY
        .iter()
        .chain(language.files())
        .map(|(path, text)| (*path, filled(text)))
        .collect();
    if language == Language::Rust {
        files.extend(RUST_SDK.iter().map(|(path, text)| (*path, (*text).to_owned())));
    }
    files.push(("wit/hooks.wit", WIT.to_owned()));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_every_template_is_filled_in() {
        for language in Language::ALL {
            for side in Side::ALL {
                let files = files(&"first".parse().unwrap(), language, side);
                assert!(files.iter().any(|(path, _)| *path == language.source()));
                for (path, text) in files {
                    assert!(!text.contains("{{name}}") && !text.contains("{{does"), "{path}");
                    let is_template = !path.starts_with("sdk/");
                    assert!(!(is_template && text.contains("{{")), "{path}: {text}");
                }
            }
        }
    }
}
