//! Merges the layers, refuses unknown names, and builds the typed configuration.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::reader::Reader;
use super::variables::{self, Meaning, nearest};
use super::{
    AuthConfig, Config, ConfigError, DEFAULTS, HooksConfig, HotConfig, LimitsConfig, LiveConfig, LogEncoding,
    LogLevel, NodeConfig, Problem, QuotasConfig, RedisConfig, ServerConfig, Source, StartConfig,
    StorageConfig, TopicsConfig, TracingConfig, WalConfig, exposure,
};

/// Tables whose keys are the user's own: their content is one value.
const OPEN_TABLES: [&str; 1] = ["quotas.namespaces"];

/// The file of variables in the working directory.
const DOTENV: &str = ".env";
/// The configuration file in the working directory.
const DEFAULT_FILE: &str = "mqueue.toml";

/// A key that a flag sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// `section.key`.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// The flag as given, with its dashes.
    pub flag: String,
}

/// Everything a configuration is made of besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The configuration file's path and text.
    pub file: Option<(PathBuf, String)>,
    /// The variables of `.env`.
    pub dotenv: Vec<(String, String)>,
    /// The environment's variables.
    pub environment: Vec<(String, String)>,
    /// What flags set.
    pub flags: Vec<Assignment>,
}

/// Where this process takes its configuration from, so that it can be read again.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The file that was named, if one was.
    pub file: Option<PathBuf>,
    /// What flags set.
    pub flags: Vec<Assignment>,
}

impl Origin {
    /// Reads everything anew: files as they are now, the environment and flags as they were given.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self) -> Result<Config, ConfigError> {
        load(&Inputs::of_process(self.file.as_deref(), self.flags.clone())?)
    }
}

impl Inputs {
    /// Reads the inputs of this process: its environment, `.env` in the working directory when there is
    /// one, and `file`, else the file that `MQUEUE_CONFIG` names, else `mqueue.toml` in the working
    /// directory when there is one.
    ///
    /// Fails when a file that was named, or that is there, cannot be read.
    pub fn of_process(file: Option<&Path>, flags: Vec<Assignment>) -> Result<Self, ConfigError> {
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let dotenv = match read_if_there(Path::new(DOTENV))? {
            Some(text) => parse_dotenv(Path::new(DOTENV), &text)?,
            None => Vec::new(),
        };
        let named = [&environment, &dotenv].into_iter().find_map(|layer| {
            let found = layer
                .iter()
                .find(|(name, value)| name == "MQUEUE_CONFIG" && !value.is_empty());
            found.map(|(_, value)| PathBuf::from(value))
        });
        let file = match file.map(Path::to_path_buf).or(named) {
            Some(path) => {
                let text = read(&path)?;
                Some((path, text))
            }
            None => {
                let path = PathBuf::from(DEFAULT_FILE);
                read_if_there(&path)?.map(|text| (path, text))
            }
        };
        Ok(Self {
            file,
            dotenv,
            environment,
            flags,
        })
    }
}

/// The variables in the text of a `.env` file; `path` is for the error.
pub fn parse_dotenv(path: &Path, text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let variables: Result<Vec<_>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
    variables.map_err(|error| ConfigError::Syntax {
        path: path.to_path_buf(),
        // The parser's own message repeats the line, which may hold a secret.
        reason: match error {
            dotenvy::Error::LineParse(wrong, _) => {
                let number = text.lines().position(|line| line.contains(wrong.trim()));
                let place = number.map_or_else(String::new, |at| format!("line {}: ", at + 1));
                format!("{place}not NAME=value; quote values that contain spaces")
            }
            other => other.to_string(),
        },
    })
}

/// Builds the configuration, or says everything that is wrong with the inputs.
pub fn load(inputs: &Inputs) -> Result<Config, ConfigError> {
    let mut layering = Layering::new()?;
    if let Some((path, text)) = &inputs.file {
        layering.add_file(path, text)?;
    }
    layering.add_variables(&inputs.dotenv, Source::DotEnv);
    layering.add_variables(&inputs.environment, Source::Env);
    for flag in &inputs.flags {
        layering.add_flag(flag);
    }
    let mut reader = Reader::new(&layering.layers);
    let (start, live) = sections(&mut reader);
    let warnings = exposure::check(&mut reader, &start, &live);
    let files = files(inputs, &live, layering.files);
    let Reader {
        entries, problems, ..
    } = reader;
    let mut all = layering.problems;
    all.extend(problems);
    if !all.is_empty() {
        return Err(ConfigError::Invalid(all));
    }
    Ok(Config {
        start,
        live,
        entries,
        warnings,
        files,
        file: inputs.file.as_ref().map(|(path, _)| path.clone()),
    })
}

/// What the configuration is made of, or would be if it were there.
fn files(inputs: &Inputs, live: &LiveConfig, named: Vec<PathBuf>) -> Vec<PathBuf> {
    let file = inputs
        .file
        .as_ref()
        .map_or(DEFAULT_FILE.into(), |(path, _)| path.clone());
    let mut files = vec![file, DOTENV.into()];
    files.extend(live.auth.jwks_file.clone());
    files.extend(named);
    files
}

fn sections(reader: &mut Reader<'_>) -> (StartConfig, LiveConfig) {
    let start = StartConfig {
        server: ServerConfig::read(reader),
        storage: StorageConfig::read(reader),
        wal: WalConfig::read(reader),
        hot: HotConfig::read(reader),
        node: NodeConfig::read(reader),
        redis: RedisConfig::read(reader),
        hooks: HooksConfig::read(reader),
        tracing: TracingConfig::read(reader),
        log_encoding: reader.choice("log.encoding", LogEncoding::Json),
    };
    let live = LiveConfig {
        auth: AuthConfig::read(reader),
        topics: TopicsConfig::read(reader),
        limits: LimitsConfig::read(reader),
        quotas: QuotasConfig::read(reader, start.hooks.cpu),
        log_level: reader.choice("log.level", LogLevel::Info),
    };
    (start, live)
}

/// The layers so far, lowest first.
struct Layering {
    layers: Figment,
    keys: Vec<String>,
    problems: Vec<Problem>,
    /// Files that variables name.
    files: Vec<PathBuf>,
}

impl Layering {
    fn new() -> Result<Self, ConfigError> {
        let defaults = parse(Path::new("mqueue.toml"), DEFAULTS)?;
        Ok(Self {
            keys: leaf_keys(&defaults),
            layers: Figment::new().merge(Layer::new(&Source::Default, defaults)),
            problems: Vec::new(),
            files: Vec::new(),
        })
    }

    fn merge(&mut self, source: &Source, dict: Dict) {
        let layers = std::mem::take(&mut self.layers);
        self.layers = layers.merge(Layer::new(source, dict));
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let dict = parse(path, text)?;
        let source = Source::File(path.to_path_buf());
        for key in leaf_keys(&dict) {
            if !self.keys.contains(&key) {
                self.unknown_key(&key, &source);
            }
        }
        self.merge(&source, dict);
        Ok(())
    }

    fn add_flag(&mut self, assignment: &Assignment) {
        let source = Source::Flag(assignment.flag.clone());
        if self.keys.contains(&assignment.key) {
            self.set(&assignment.key, assignment.value.clone(), &source);
        } else {
            self.unknown_key(&assignment.key, &source);
        }
    }

    /// Adds one layer of variables. Two variables of one layer for one key must agree, since neither
    /// could be said to win.
    fn add_variables(&mut self, variables: &[(String, String)], source: fn(String) -> Source) {
        let keys = self.keys.clone();
        let mut set: Map<String, (String, String)> = Map::new();
        for (variable, text) in variables.iter().filter(|(_, text)| !text.is_empty()) {
            let origin = source(variable.clone());
            let (key, text, origin) = match variables::meaning(variable, &keys) {
                Meaning::Foreign => continue,
                Meaning::Value(key) => (key, text.clone(), origin),
                Meaning::File(key) => match std::fs::read_to_string(text) {
                    Ok(content) => {
                        let path = PathBuf::from(text);
                        self.files.push(path.clone());
                        let variable = variable.clone();
                        (
                            key,
                            content.trim().to_owned(),
                            Source::VariableFile { variable, path },
                        )
                    }
                    Err(error) => {
                        let detail = format!("cannot read {text}: {error}");
                        self.problems.push(Problem::name(variable, &origin, detail));
                        continue;
                    }
                },
                Meaning::Unknown(nearest) => {
                    let detail = suggestion("no such variable", nearest.as_deref());
                    self.problems.push(Problem::name(variable, &origin, detail));
                    continue;
                }
            };
            match set.get(key) {
                Some((other, value)) if *value != text => {
                    let detail = format!("{other} sets {key} to something else; keep one of the two");
                    self.problems.push(Problem::name(variable, &origin, detail));
                }
                _ => {
                    set.insert(key.to_owned(), (variable.clone(), text.clone()));
                    self.set(key, text, &origin);
                }
            }
        }
    }

    fn set(&mut self, key: &str, text: String, source: &Source) {
        if let Some(dict) = figment::util::nest(key, Value::from(text)).into_dict() {
            self.merge(source, dict);
        }
    }

    fn unknown_key(&mut self, key: &str, source: &Source) {
        let nearest = nearest(key, self.keys.iter().map(String::as_str)).or_else(|| {
            // A key in the wrong section, or without one.
            let name = key.rsplit('.').next().unwrap_or(key);
            let mut same_name = self
                .keys
                .iter()
                .filter(|known| known.rsplit('.').next() == Some(name));
            same_name.next().map(String::as_str)
        });
        let detail = suggestion("no such key", nearest);
        self.problems.push(Problem::name(key, source, detail));
    }
}

fn suggestion(what: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("{what}; did you mean {nearest}?"),
        None => format!("{what}; `mqueue config show` lists them all"),
    }
}

/// A table of values that came from one place.
struct Layer {
    origin: String,
    dict: Dict,
}

impl Layer {
    fn new(source: &Source, dict: Dict) -> Self {
        Self {
            origin: source.to_string(),
            dict,
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

fn parse(path: &Path, text: &str) -> Result<Dict, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // The parser's own rendering repeats the line, which may hold a secret.
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        ConfigError::Syntax {
            path: path.to_path_buf(),
            reason: format!("line {line}: {}", error.message()),
        }
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, ConfigError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(_) if !path.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every key of `dict` that is not a table, with its path; open tables count as keys.
pub(super) fn leaf_keys(dict: &Dict) -> Vec<String> {
    fn walk(dict: &Dict, prefix: &str, keys: &mut Vec<String>) {
        for (name, value) in dict {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            match value {
                Value::Dict(_, inner) if !OPEN_TABLES.contains(&key.as_str()) => walk(inner, &key, keys),
                _ => keys.push(key),
            }
        }
    }
    let mut keys = Vec::new();
    walk(dict, "", &mut keys);
    keys
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
