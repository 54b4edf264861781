#![allow(clippy::unwrap_used)]
use super::*;
use crate::from_json;

fn render(source: &str, data: serde_json::Value) -> Result<String, String> {
    let templates = Templates::parse([("main", source)], |template| template).map_err(|error| error.to_string())?;
    templates
        .render("main", &from_json(&data))
        .map_err(|error| error.to_string())
}

fn check(source: &str, expected: &str) {
    let data = serde_json::json!({"name": "reviews", "n": 3, "labels": {"b": "2", "a": "1"}, "list": ["x", "y"], "none": null});
    assert_eq!(render(source, data).unwrap(), expected, "{source}");
}

#[test]
fn functions_behave_as_in_sprig() {
    check(r#"{{ .missing | default "x" }} {{ .name | default "x" }}"#, "x reviews");
    check(
        r#"{{ .n | quote }} {{ .name | trunc 3 | upper }} {{ .name | trunc -3 }}"#,
        r#""3" REV ews"#,
    );
    check(
        r#"{{ contains "view" .name }} {{ hasPrefix "re" .name }} {{ trimAll "-_." "-a." }}"#,
        "true true a",
    );
    check(r#"{{ toYaml .labels | nindent 2 }}"#, "\n  a: \"1\"\n  b: \"2\"");
    check(
        r#"{{ toJson .labels }} {{ toYaml (dict) }} {{ toYaml (list) }}"#,
        r#"{"a":"1","b":"2"} {} []"#,
    );
    check(
        r#"{{ join "," .list }} {{ has "x" .list }} {{ append .list "z" | len }}"#,
        "x,y true 3",
    );
    check(
        r#"{{ (mergeOverwrite (dict "a" (dict "b" 1)) (dict "a" (dict "c" 2))) | toJson }}"#,
        r#"{"a":{"b":1,"c":2}}"#,
    );
    check(
        r#"{{ semverCompare ">=1.20-0" "v1.36.2" }} {{ ternary "a" "b" false }} {{ add 1 2 3 }}"#,
        "true b 6",
    );
    check(
        r#"{{ dig "labels" "a" "none" . }} {{ dig "labels" "z" "none" . }}"#,
        "1 none",
    );
    check(
        r#"{{ "aGk=" | b64dec }} {{ regexReplaceAll "[aeiou]" "hello" "_" }}"#,
        "hi h_ll_",
    );
}

#[test]
fn comments_trim_only_where_they_say_so() {
    check("a\n  {{- /* left */}}\n  b", "a\n  b");
    check("a\n  {{/* none */}}\n  b", "a\n  \n  b");
    check("a\n  {{- /* both */ -}}\n  b", "ab");
}

#[test]
fn templates_include_each_other() {
    let sources = [
        ("_labels.tpl", r#"{{- define "labels" }}app: {{ .name }}{{ end -}}"#),
        ("main", r#"{{ include "labels" . | indent 2 }}"#),
    ];
    let templates = Templates::parse(sources, |template| template).unwrap();
    assert_eq!(
        templates
            .render("main", &from_json(&serde_json::json!({"name": "a"})))
            .unwrap(),
        "  app: a"
    );
}

#[test]
fn mistakes_are_errors_that_name_the_template() {
    let error = |source: &str| render(source, serde_json::json!({})).unwrap_err();
    assert!(error(r#"{{ fail "no gateway" }}"#).contains("template main: execution error: fail: no gateway"));
    assert!(error(r#"{{ required "set global.hub" .hub }}"#).contains("set global.hub"));
    assert!(error(r#"{{ repeat 99999999 "x" }}"#).contains("is not between"));
    assert!(
        error(r#"{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}"#).contains("does one include itself")
    );
    assert!(error("{{ if }}").contains("template main"));
}
