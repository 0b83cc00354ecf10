//! What holds for single methods.

use tonic::Code;

use super::*;

const RETRY: &str = r#"{"maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"1s",
    "backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","aborted",8]}"#;

#[test]
fn a_method_has_what_names_it_or_its_service_or_all() {
    let config = parse(
        r#"{"methodConfig":[
            {"name":[{}],"timeout":"1s"},
            {"name":[{"service":"a.B"}],"timeout":"2s","waitForReady":true},
            {"name":[{"service":"a.B","method":"C"},{"service":"d.E","method":""}],"timeout":"3s"},
            {"timeout":"4s"}
        ]}"#,
    )
    .unwrap();
    let seconds = |path| {
        config
            .method(path)
            .and_then(|it| it.timeout)
            .map(|it| it.as_secs())
    };
    assert_eq!(seconds("/x.Y/Z"), Some(1));
    assert_eq!(seconds("/a.B/Other"), Some(2));
    assert_eq!(seconds("/a.B/C"), Some(3));
    assert_eq!(seconds("/d.E/Any"), Some(3));
    for path in ["", "/", "nonsense", "/a.B"] {
        assert!(matches!(seconds(path), None | Some(1)), "{path}");
    }
    assert_eq!(config.method("/a.B/D").unwrap().wait_for_ready, Some(true));
    assert_eq!(config.method("/a.B/C").unwrap().wait_for_ready, None);
}

#[test]
fn a_retry_policy_is_read_by_the_rules_of_grpc() {
    let text = format!(r#"{{"methodConfig":[{{"name":[{{}}],"retryPolicy":{RETRY}}}]}}"#);
    let config = parse(&text).unwrap();
    let policy = config
        .method("/a.B/C")
        .unwrap()
        .retry_policy
        .clone()
        .unwrap();
    assert_eq!(policy.max_attempts, 4);
    assert_eq!(policy.initial_backoff, Duration::from_millis(100));
    assert_eq!(policy.max_backoff, Duration::from_secs(1));
    assert_eq!(policy.backoff_multiplier, 2.0);
    let codes = [Code::Unavailable, Code::Aborted, Code::ResourceExhausted];
    assert_eq!(policy.retryable_codes, codes);
    let many = text.replace("\"maxAttempts\":4", "\"maxAttempts\":99");
    let many = parse(&many).unwrap().methods.remove(0).retry_policy;
    assert_eq!(many.unwrap().max_attempts, 5);
}

#[test]
fn what_is_wrong_in_a_method_config_is_named() {
    for (from, to, wanted) in [
        (
            ":4",
            ":1",
            "retryPolicy.maxAttempts: 1 is not a whole number, 2 or more",
        ),
        (":4", ":2.5", "maxAttempts"),
        (
            "\"maxAttempts\":4,",
            "",
            "maxAttempts: a retry policy needs this",
        ),
        ("0.1s", "0s", "initialBackoff"),
        ("\"1s\"", "1", "maxBackoff"),
        (":2,", ":0,", "backoffMultiplier: 0 is not a number above 0"),
        ("aborted", "bored", "retryableStatusCodes[1]"),
        ("[\"UNAVAILABLE\",\"aborted\",8]", "[]", "the list is empty"),
        (
            ",8]",
            ",17]",
            "retryableStatusCodes[2]: 17 is not a status code",
        ),
    ] {
        let retry = RETRY.replacen(from, to, 1);
        let text = format!(r#"{{"methodConfig":[{{"name":[{{}}],"retryPolicy":{retry}}}]}}"#);
        let error = parse(&text).unwrap_err();
        assert!(error.contains("methodConfig[0].retryPolicy"), "{error}");
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    for (config, wanted) in [
        (
            r#"{"name":[{"method":"C"}]}"#,
            "name[0]: a method needs its service",
        ),
        (
            r#"{"name":[{"service":"a"},{"service":"a","method":""}]}"#,
            "name[1]: this is named before",
        ),
        (r#"{"name":[{}],"timeout":"soon"}"#, "timeout"),
        (
            r#"{"name":[{}],"waitForReady":1}"#,
            "waitForReady: 1 is not true or false",
        ),
        ("7", "methodConfig[0]: 7 is not an object"),
    ] {
        let error = parse(&format!(r#"{{"methodConfig":[{config}]}}"#)).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn throttling_has_tokens_and_a_ratio_in_thousandths() {
    let throttling = |text: &str| {
        let text = format!(r#"{{"retryThrottling":{text}}}"#);
        parse(&text).map(|config| config.retry_throttling.unwrap())
    };
    let read = throttling(r#"{"maxTokens":10,"tokenRatio":0.12345}"#).unwrap();
    assert_eq!((read.max_tokens, read.token_ratio), (10, 0.123));
    for bad in [
        r#"{"maxTokens":0,"tokenRatio":1}"#,
        r#"{"maxTokens":1001,"tokenRatio":1}"#,
        r#"{"maxTokens":10,"tokenRatio":0.0001}"#,
        r#"{"maxTokens":10}"#,
        "7",
    ] {
        let error = throttling(bad).unwrap_err();
        assert!(error.contains("retryThrottling"), "{error}");
    }
}
