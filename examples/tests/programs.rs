//! The programs that need nothing else do what they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("RUST_BACKTRACE", "0");
    command.output().unwrap()
}

/// What a program that ends well prints.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{errors}");
    text
}

#[test]
fn custom_resolver_follows_its_table() {
    let text = printed(env!("CARGO_BIN_EXE_custom_resolver"), &[]);
    assert!(text.contains(r#"{"blue": 10}"#), "{text}");
    assert!(text.contains(r#"{"green": 10}"#), "{text}");
    assert!(text.contains("nowhere is not in the table"), "{text}");
}

#[test]
fn client_round_robin_spreads_calls_over_those_that_are_left() {
    let text = printed(env!("CARGO_BIN_EXE_client_round_robin"), &["--count", "60"]);
    let (before, after) = text.split_once("after red has ended").unwrap();
    for name in ["blue", "green", "red"] {
        assert!(before.contains(name), "{text}");
        assert_eq!(after.contains(name), name != "red", "{text}");
    }
}

#[test]
fn client_lookaside_says_what_to_start_where_there_is_no_balancer() {
    let program = env!("CARGO_BIN_EXE_client_lookaside");
    let output = run(program, &["--balancer", "127.0.0.1:1"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("127.0.0.1:1"), "{text}");
    assert!(text.contains("demo"), "{text}");
}

#[test]
fn call_metrics_has_each_call_by_backend_and_status() {
    let text = printed(env!("CARGO_BIN_EXE_call_metrics"), &[]);
    let counts: u32 = text
        .lines()
        .filter(|line| line.starts_with("grpc_client_call_duration_seconds_count{"))
        .inspect(|line| assert!(line.contains(r#"grpc_status="OK""#), "{text}"))
        .inspect(|line| assert!(line.contains(r#"backend="127.0.0.1:"#), "{text}"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
        .sum();
    assert_eq!(counts, 20, "{text}");
    let text = printed(env!("CARGO_BIN_EXE_call_metrics_otel"), &[]);
    assert!(text.contains("measured 20 calls"), "{text}");
}

#[test]
fn custom_policy_sends_fewer_calls_to_the_slow_one() {
    let text = printed(env!("CARGO_BIN_EXE_custom_policy"), &[]);
    let (turns, own) = text.split_once("quicker of two:").unwrap();
    let slow = |text: &str| {
        let line = text.lines().find(|line| line.ends_with("slow"));
        let calls = line.map(|line| line.split_whitespace().next().unwrap());
        calls.map_or(0, |calls| calls.parse::<u32>().unwrap())
    };
    assert!(slow(own) < slow(turns), "{text}");
}
