//! The OpenAPI document: what poem-openapi generates from the route table, put right and in order.
//!
//! Put right are the things poem-openapi writes that the specification or generators of clients do not
//! accept: `format: bytes` for base64, charsets in media types, upper-cased header names, parameters whose
//! names differ from the path's, references wrapped together with nothing but their description, and
//! unsigned formats that nobody else knows. Names in paths say what they are and may hold. The order makes the text the same on every run, so that it can be
//! committed and compared.

use poem_openapi::{LicenseObject, OpenApiService};
use serde_json::{Map, Value, json};

use super::routes::Table;
use crate::model::limits::NAME_BYTES_MAX;

/// The document's title.
pub(super) const TITLE: &str = "MQueue";
/// The version of the API, which is the crate's.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const DESCRIPTION: &str = "A multi-tenant priority message queue. Every answer that is not a success is an \
                           RFC 9457 problem with a stable `code`; `/problems/{code}` explains it.";

/// The document as pretty JSON, the same on every run.
pub fn document() -> String {
    let raw = OpenApiService::new(Table, TITLE, VERSION)
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT"))
        .spec();
    // What was just written as JSON reads as JSON.
    let mut document: Value = serde_json::from_str(&raw).unwrap_or_default();
    normalise(&mut document);
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn normalise(document: &mut Value) {
    let mut problems = Map::new();
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths.iter_mut() {
            for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
                normalise_operation(path, operation, &mut problems);
            }
        }
    }
    document["components"]["responses"] = Value::Object(problems);
    // Licences have an SPDX identifier only from OpenAPI 3.1 on, and no server means this one.
    document["servers"] = json!([{"url": "/"}]);
    correct(document);
    sort(document);
}

/// Puts one operation right, and moves its problem answers, which are the same everywhere, to `problems`.
fn normalise_operation(path: &str, operation: &mut Value, problems: &mut Map<String, Value>) {
    for parameter in operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let is_path = parameter["in"] == "path";
        if let Some(name) = parameter["name"].as_str().map(str::to_owned) {
            if is_path {
                describe_path_parameter(parameter);
            }
            if is_path && !path.contains(&format!("{{{name}}}")) {
                // Rust cannot name a variable as every path may: `type_` stands for `{type}`.
                parameter["name"] = json!(name.trim_end_matches('_'));
            }
            if parameter["in"] == "header" {
                parameter["name"] = json!(header_case(&name));
            }
        }
    }
    let responses = operation["responses"].as_object_mut();
    for (status, response) in responses.into_iter().flatten() {
        describe_headers(status, response);
        if is_problem(status) {
            let name = format!("Problem{status}");
            let reference = json!({"$ref": format!("#/components/responses/{name}")});
            problems.insert(name, std::mem::replace(response, reference));
        }
    }
}

/// Says what a name in the path stands for, and what it may hold.
fn describe_path_parameter(parameter: &mut Value) {
    let description = match parameter["name"].as_str().unwrap_or_default() {
        "ns" => "The namespace.",
        "topic" => "The topic.",
        "hook" => "The hook.",
        "binding" => "The binding.",
        "test" => "The test case.",
        "id" => {
            parameter["schema"]["pattern"] = json!("^[0-9]{1,19}$");
            parameter["description"] = json!("The item's id, decimal.");
            return;
        }
        _ => return,
    };
    parameter["description"] = json!(description);
    parameter["schema"]["pattern"] = json!(format!("^[A-Za-z0-9._-]{{1,{NAME_BYTES_MAX}}}$"));
}

/// Whether answers of this status are problems.
fn is_problem(status: &str) -> bool {
    !matches!(status, "200" | "201" | "202" | "304")
}

/// Adds the headers that the outer layer sets on answers of this status.
fn describe_headers(status: &str, response: &mut Value) {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let mut headers = Map::new();
    if let Some(known) = response["headers"].as_object() {
        headers.extend(
            known
                .iter()
                .map(|(name, header)| (header_case(name), header.clone())),
        );
    }
    headers.insert(
        "X-Request-Id".to_owned(),
        text("The request's id, taken over or made."),
    );
    if status == "429" || status == "503" {
        headers.insert("Retry-After".to_owned(), text("Seconds to wait."));
    }
    if status == "401" {
        headers.insert("WWW-Authenticate".to_owned(), text("How to authenticate."));
    }
    response["headers"] = Value::Object(headers);
}

/// `RETRY-AFTER` as `Retry-After`.
fn header_case(name: &str) -> String {
    if name.eq_ignore_ascii_case("etag") {
        return "ETag".to_owned();
    }
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first
            .into_iter()
            .chain(letters.map(|letter| letter.to_ascii_lowercase()))
            .collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

/// Corrects formats, references and media types wherever they stand.
fn correct(value: &mut Value) {
    match value {
        Value::Object(map) => {
            correct_format(map);
            unwrap_reference(map);
            if let Some(Value::Object(content)) = map.get_mut("content") {
                let plain = std::mem::take(content).into_iter();
                *content = plain.map(|(kind, value)| (essence(&kind), value)).collect();
            }
            map.values_mut().for_each(correct);
        }
        Value::Array(list) => list.iter_mut().for_each(correct),
        _ => {}
    }
}

/// Formats that OpenAPI knows, in place of those of Rust.
fn correct_format(schema: &mut Map<String, Value>) {
    let format = match schema.get("format").and_then(Value::as_str) {
        Some("bytes") => "byte",
        Some("uint8" | "uint16") => "int32",
        Some("uint32" | "uint64") => "int64",
        _ => return,
    };
    if schema.get("type") == Some(&json!("integer")) {
        schema.entry("minimum").or_insert(json!(0));
    }
    schema.insert("format".to_owned(), json!(format));
}

/// `allOf` of a reference and a description is that reference, described: generators take the second entry
/// for a shape of its own, and refuse to mix it with an enumeration.
fn unwrap_reference(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(parts)) = schema.get_mut("allOf")
        && let [reference, described] = parts.as_slice()
        && reference.get("$ref").is_some()
        && described
            .as_object()
            .is_some_and(|described| described.keys().eq(["description"]))
    {
        parts.truncate(1);
    }
}

fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_owned()
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.iter_mut().for_each(|(_, value)| sort(value));
            map.extend(entries);
        }
        Value::Array(list) => list.iter_mut().for_each(sort),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(&document()).unwrap()
    }

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let mut all = vec![];
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                all.push((path.clone(), method.clone(), operation.clone()));
            }
        }
        all
    }

    #[test]
    fn every_operation_is_named_tagged_guarded_and_has_problems() {
        let document = parsed();
        let open = ["/health", "/livez", "/readyz", "/problems/{code}"];
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let place = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{place}"
            );
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{place}");
            assert!(operation["summary"].is_string(), "{place}");
            assert!(
                !operation.as_object().unwrap().values().any(Value::is_null),
                "{place}"
            );
            assert_eq!(
                operation["security"].is_array(),
                !open.contains(&path.as_str()),
                "{place}"
            );
            for (status, response) in operation["responses"].as_object().unwrap() {
                let shared = &document["components"]["responses"][format!("Problem{status}")];
                let response = if response.get("$ref").is_some() {
                    shared
                } else {
                    response
                };
                assert!(
                    response["headers"]["X-Request-Id"].is_object(),
                    "{place} {status}"
                );
                if is_problem(status) {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/Problem", "{place} {status}");
                }
            }
        }
        assert!(ids.len() >= 35, "{}", ids.len());
    }

    #[test]
    fn path_parameters_are_those_of_the_path() {
        for (path, method, operation) in operations(&parsed()) {
            let named: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            let empty = vec![];
            let parameters = operation["parameters"].as_array().unwrap_or(&empty);
            let documented = parameters.iter().filter(|p| p["in"] == "path");
            let documented: BTreeSet<&str> = documented.map(|p| p["name"].as_str().unwrap()).collect();
            assert_eq!(named, documented, "{method} {path}");
        }
    }

    #[test]
    fn known_defects_are_put_right() {
        let text = document();
        for defect in ["\"uint", "\"bytes\"", "charset", "RETRY-AFTER", "\"contact\""] {
            assert!(!text.contains(defect), "{defect}");
        }
        assert!(text.contains("\"format\": \"byte\"") && text.contains("\"openapi\": \"3.0.0\""));
        let mut sample = json!({"b": {"format": "bytes"}, "a": [], "content": {"x/y; charset=utf-8": 1}});
        correct(&mut sample);
        assert_eq!(
            sample,
            json!({"b": {"format": "byte"}, "a": [], "content": {"x/y": 1}})
        );
        assert_eq!(header_case("RETRY-AFTER"), "Retry-After");
        let mut sample = json!({"allOf": [{"$ref": "#/x"}, {"description": "y"}], "description": "y",
            "n": {"type": "integer", "format": "uint16"}});
        correct(&mut sample);
        assert_eq!(
            sample,
            json!({"allOf": [{"$ref": "#/x"}], "description": "y",
                "n": {"type": "integer", "format": "int32", "minimum": 0}})
        );
    }

    #[test]
    fn the_document_is_the_same_on_every_run() {
        assert_eq!(document(), document());
    }
}
