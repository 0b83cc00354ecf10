//! What a service config may say, and what is said of one that is wrong.

use proptest::prelude::*;

use super::*;

mod methods;

fn parse(text: &str) -> Result<ServiceConfig, String> {
    text.parse()
        .map_err(|error: ServiceConfigError| error.to_string())
}

fn policy(text: &str) -> Option<PolicyConfig> {
    parse(text).unwrap().policy
}

fn grpclb(settings: &str) -> Result<GrpclbPolicyConfig, String> {
    let text = format!(r#"{{"loadBalancingConfig":[{{"grpclb":{settings}}}]}}"#);
    match parse(&text)?.policy {
        Some(PolicyConfig::Grpclb(config)) => Ok(config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn grpclb_with_all_its_settings() {
    let config = grpclb(
        r#"{"childPolicy":[{"pick_first":{}}],"serviceName":"x","initialFallbackTimeout":"3s"}"#,
    );
    assert_eq!(
        config.unwrap(),
        GrpclbPolicyConfig {
            child: ChildPolicy::PickFirst,
            service_name: Some("x".to_owned()),
            initial_fallback_timeout: Some(Duration::from_secs(3)),
        }
    );
    assert_eq!(grpclb("{}").unwrap(), GrpclbPolicyConfig::default());
    let nulls = grpclb(r#"{"childPolicy":null,"serviceName":null}"#);
    assert_eq!(nulls.unwrap(), GrpclbPolicyConfig::default());
    assert_eq!(grpclb(r#"{"serviceName":""}"#).unwrap().service_name, None);
    assert!(grpclb(r#"{"unheardOf":{"a":[1]}}"#).is_ok());
}

#[test]
fn the_first_policy_that_is_known_counts() {
    let text =
        r#"{"loadBalancingConfig":[{"unheard_of":{"a":1}},{"grpclb":{}},{"round_robin":{}}]}"#;
    assert!(matches!(policy(text), Some(PolicyConfig::Grpclb(_))));
    let text = r#"{"loadBalancingConfig":[{"round_robin":{}},{"grpclb":{}}]}"#;
    assert_eq!(policy(text), Some(PolicyConfig::RoundRobin));
    let text = r#"{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}"#;
    let shuffled = PickFirstConfig {
        shuffle_address_list: true,
    };
    assert_eq!(policy(text), Some(PolicyConfig::PickFirst(shuffled)));
}

#[test]
fn the_first_child_policy_that_is_known_counts() {
    for (list, child) in [
        ("[]", ChildPolicy::RoundRobin),
        (r#"[{"round_robin":{}}]"#, ChildPolicy::RoundRobin),
        (r#"[{"pick_first":{}}]"#, ChildPolicy::PickFirst),
        (r#"[{"unheard_of":{}}]"#, ChildPolicy::RoundRobin),
        (
            r#"[{"unheard_of":{}},{"pick_first":{}}]"#,
            ChildPolicy::PickFirst,
        ),
        (
            r#"[{"round_robin":{}},{"pick_first":{}}]"#,
            ChildPolicy::RoundRobin,
        ),
        (
            r#"[{"pick_first":{}},{"round_robin":{}}]"#,
            ChildPolicy::PickFirst,
        ),
        // A grpclb below grpclb would ask the balancer for balancers.
        (
            r#"[{"grpclb":{}},{"pick_first":{}}]"#,
            ChildPolicy::PickFirst,
        ),
    ] {
        let config = grpclb(&format!(r#"{{"childPolicy":{list}}}"#)).unwrap();
        assert_eq!(config.child, child, "{list}");
        let named = grpclb(&format!(r#"{{"serviceName":"x","childPolicy":{list}}}"#)).unwrap();
        assert_eq!(named.child, child, "{list}");
        assert_eq!(named.service_name.as_deref(), Some("x"));
    }
}

#[test]
fn the_name_of_old_serves_where_there_is_no_list() {
    for name in ["round_robin", "ROUND_ROBIN", "Round_Robin"] {
        let text = format!(r#"{{"loadBalancingPolicy":"{name}"}}"#);
        assert_eq!(policy(&text), Some(PolicyConfig::RoundRobin));
    }
    let both = r#"{"loadBalancingPolicy":"round_robin","loadBalancingConfig":[{"pick_first":{}}]}"#;
    let first = PickFirstConfig::default();
    assert_eq!(policy(both), Some(PolicyConfig::PickFirst(first)));
    let unknown = parse(r#"{"loadBalancingPolicy":"xds"}"#).unwrap_err();
    assert!(unknown.contains("loadBalancingPolicy: xds"), "{unknown}");
    assert!(unknown.contains("round_robin"), "{unknown}");
}

#[test]
fn what_is_empty_is_absent() {
    for text in ["", " \n", "{}", r#"{"loadBalancingConfig":null}"#] {
        assert_eq!(parse(text), Ok(ServiceConfig::default()), "{text}");
    }
    assert_eq!(policy(r#"{"loadBalancingPolicy":""}"#), None);
}

#[test]
fn what_is_not_known_is_ignored_and_named() {
    let text = r#"{
        "healthCheckConfig": {"serviceName": "x"},
        "loadBalancingConfig": [{"of_tomorrow": {}}, {"grpclb": {"childPolicies": 7}}],
        "methodConfig": [{"name": [{}], "hedgingPolicy": {}}],
        "spare": null
    }"#;
    let ignored = parse(text).unwrap().ignored;
    let mut wanted = [
        "healthCheckConfig",
        "loadBalancingConfig[0].of_tomorrow",
        "loadBalancingConfig[1].grpclb.childPolicies",
        "methodConfig[0].hedgingPolicy",
    ];
    wanted.sort_unstable();
    let mut ignored: Vec<_> = ignored.iter().map(String::as_str).collect();
    ignored.sort_unstable();
    assert_eq!(ignored, wanted);
    let many: Vec<_> = (0..100).map(|i| format!(r#""key{i}":1"#)).collect();
    let many = parse(&format!("{{{}}}", many.join(","))).unwrap();
    assert_eq!(many.ignored.len(), 8);
}

#[test]
fn durations_are_those_of_protobuf() {
    let timeout = |text: &str| {
        grpclb(&format!(r#"{{"initialFallbackTimeout":{text}}}"#))
            .map(|config| config.initial_fallback_timeout.unwrap())
    };
    assert_eq!(timeout(r#""12.345s""#), Ok(Duration::from_millis(12_345)));
    assert_eq!(timeout(r#""0.000000001s""#), Ok(Duration::from_nanos(1)));
    assert_eq!(timeout(r#""2s""#), Ok(Duration::from_secs(2)));
    for bad in [
        r#""0s""#,
        r#""-3s""#,
        r#""3""#,
        r#""3ms""#,
        r#"".5s""#,
        r#""1.s""#,
        r#""1.0000000001s""#,
        r#""315576000001s""#,
        r#""99999999999999999999s""#,
        r#""s""#,
        "3",
        "{}",
    ] {
        let error = timeout(bad).unwrap_err();
        assert!(
            error.contains("loadBalancingConfig[0].grpclb.initialFallbackTimeout"),
            "{error}"
        );
        assert!(error.contains("like \"3s\""), "{error}");
    }
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    for (text, at, right) in [
        ("{", "no JSON", "EOF"),
        ("[]", "[] is not an object", "{…}"),
        (
            r#"{"loadBalancingConfig":{"round_robin":{}}}"#,
            "loadBalancingConfig: {\"round_robin\":{}} is not a list",
            r#"[{"round_robin":{}}]"#,
        ),
        (
            r#"{"loadBalancingConfig":[{"a":{}},{"b":{},"c":{}}]}"#,
            "loadBalancingConfig[1]: an entry names one policy",
            "2 keys",
        ),
        (
            r#"{"loadBalancingConfig":[{}]}"#,
            "loadBalancingConfig[0]",
            "0 keys",
        ),
        (
            r#"{"loadBalancingConfig":["round_robin"]}"#,
            "loadBalancingConfig[0]: \"round_robin\" is not one policy",
            r#"{"round_robin":{}}"#,
        ),
        (
            r#"{"loadBalancingConfig":[{"round_robin":7}]}"#,
            "loadBalancingConfig[0].round_robin: 7 is not an object",
            "{…}",
        ),
        (
            r#"{"loadBalancingConfig":[]}"#,
            "loadBalancingConfig: the list is empty",
            "round_robin",
        ),
        (
            r#"{"loadBalancingConfig":[{"a":{}},{"b":{}}]}"#,
            "none of a, b is known",
            "grpclb",
        ),
        (
            r#"{"loadBalancingConfig":[{"grpclb":{"childPolicy":[{"a":{},"b":{}}]}}]}"#,
            "loadBalancingConfig[0].grpclb.childPolicy[0]",
            "2 keys",
        ),
        (
            r#"{"loadBalancingConfig":[{"grpclb":{"childPolicy":{"pick_first":{}}}}]}"#,
            "loadBalancingConfig[0].grpclb.childPolicy: {\"pick_first\":{}} is not a list",
            r#"[{"round_robin":{}}]"#,
        ),
        (
            r#"{"loadBalancingConfig":[{"grpclb":{"serviceName":"x","childPolicy":"a"}}]}"#,
            "loadBalancingConfig[0].grpclb.childPolicy: \"a\" is not a list",
            r#"[{"round_robin":{}}]"#,
        ),
        (
            r#"{"loadBalancingConfig":[{"grpclb":{"serviceName":7}}]}"#,
            "grpclb.serviceName: 7 is not a text",
            "\"…\"",
        ),
        (
            r#"{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":"yes"}}]}"#,
            "pick_first.shuffleAddressList",
            "true or false",
        ),
        (
            r#"{"loadBalancingPolicy":["round_robin"]}"#,
            "loadBalancingPolicy",
            "a text",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(at), "{error:?} for {text}");
        assert!(error.contains(right), "{error:?} for {text}");
    }
}

#[test]
fn an_error_is_short_however_long_the_text() {
    let long = "é".repeat(10_000);
    let error = parse(&format!(r#"{{"loadBalancingConfig":[{{"{long}":7}}]}}"#)).unwrap_err();
    assert!(error.chars().count() < 200, "{error}");
}

fn choose(choices: &str, hostname: &str, seed: u64) -> Result<Option<ServiceConfig>, String> {
    let records = [
        "v=spf1 -all".to_owned(),
        format!("grpc_config={choices}"),
        "grpc_config=not looked at".to_owned(),
    ];
    ServiceConfig::from_txt(records, hostname, &mut fastrand::Rng::with_seed(seed))
        .map_err(|error| error.to_string())
}

const ROUND_ROBIN: &str = r#""serviceConfig":{"loadBalancingConfig":[{"round_robin":{}}]}"#;
const PICK_FIRST: &str = r#""serviceConfig":{"loadBalancingConfig":[{"pick_first":{}}]}"#;

#[test]
fn the_first_choice_that_is_meant_for_us_counts() {
    let round_robin = ServiceConfig {
        policy: Some(PolicyConfig::RoundRobin),
        ..ServiceConfig::default()
    };
    for (conditions, meant) in [
        ("", true),
        (r#""clientLanguage":["go","Rust"],"#, true),
        (r#""clientLanguage":["go","c++"],"#, false),
        (r#""clientLanguage":[],"#, false),
        (r#""clientHostname":["other","me"],"#, true),
        (r#""clientHostname":["other"],"#, false),
        (r#""percentage":100,"#, true),
        (r#""percentage":0,"#, false),
        (r#""clientLanguage":["rust"],"percentage":0,"#, false),
        (
            r#""clientLanguage":["rust"],"clientHostname":["me"],"percentage":100,"#,
            true,
        ),
    ] {
        let choices = format!("[{{{conditions}{ROUND_ROBIN}}},{{{PICK_FIRST}}}]");
        let chosen = choose(&choices, "me", 7).unwrap().unwrap();
        assert_eq!(chosen == round_robin, meant, "{conditions}");
        let alone = choose(&format!("[{{{conditions}{ROUND_ROBIN}}}]"), "me", 7).unwrap();
        assert_eq!(alone.is_some(), meant, "{conditions}");
    }
}

#[test]
fn a_percentage_is_of_clients_and_a_client_keeps_its_place() {
    let choices = format!(r#"[{{"percentage":25,{ROUND_ROBIN}}}]"#);
    let chosen = |seed| choose(&choices, "", seed).unwrap().is_some();
    let share = (0..10_000).filter(|seed| chosen(*seed)).count();
    assert!((2300..=2700).contains(&share), "{share}");
    for seed in 0..100 {
        assert_eq!(chosen(seed), chosen(seed));
    }
}

#[test]
fn records_about_other_things_carry_no_service_config() {
    let mut rng = fastrand::Rng::with_seed(7);
    let none: [&str; 0] = [];
    assert_eq!(ServiceConfig::from_txt(none, "", &mut rng), Ok(None));
    let spf = ["v=spf1 -all", "Grpc_config=[]", "xgrpc_config=[]"];
    assert_eq!(ServiceConfig::from_txt(spf, "", &mut rng), Ok(None));
    assert_eq!(choose("[]", "", 7), Ok(None));
}

#[test]
fn malformed_choices_are_named() {
    for (choices, wanted) in [
        ("", "grpc_config: this is no JSON"),
        ("{}", "grpc_config: {} is not a list of choices"),
        ("[7]", "grpc_config[0]: 7 is not an object"),
        (r#"[{"percentage":10}]"#, ""),
        ("[{}]", "grpc_config[0].serviceConfig: a choice needs one"),
        (
            r#"[{"clientLanguage":"rust"}]"#,
            "grpc_config[0].clientLanguage: \"rust\" is not a list of texts",
        ),
        (
            r#"[{"clientHostname":[7]}]"#,
            "grpc_config[0].clientHostname[0]: 7 is not a text",
        ),
        (
            r#"[{"percentage":101}]"#,
            "grpc_config[0].percentage: 101 is not a whole number, 0 to 100",
        ),
        (
            r#"[{"serviceConfig":{"loadBalancingConfig":7}}]"#,
            "grpc_config[0].serviceConfig.loadBalancingConfig: 7 is not a list",
        ),
    ] {
        match choose(choices, "", 7) {
            Err(error) => assert!(error.contains(wanted), "{error:?} for {choices}"),
            Ok(chosen) => assert!(wanted.is_empty() && chosen.is_none(), "{choices}"),
        }
    }
}

/// JSON that looks much like a service config.
fn nearly() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("7".to_owned()),
        Just("\"3s\"".to_owned()),
        Just("\"rust\"".to_owned()),
        Just("true".to_owned()),
        Just("".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let key = prop_oneof![
            Just("loadBalancingConfig"),
            Just("loadBalancingPolicy"),
            Just("grpclb"),
            Just("round_robin"),
            Just("childPolicy"),
            Just("initialFallbackTimeout"),
            Just("serviceConfig"),
            Just("percentage"),
            Just("methodConfig"),
            Just("retryPolicy"),
            Just("retryThrottling"),
            Just("clientLanguage"),
        ];
        let pair = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(pair, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}", nearly in nearly(), bytes: Vec<u8>) {
        let mut rng = fastrand::Rng::with_seed(7);
        for text in [&text, &nearly] {
            let _ = parse(text);
            let _ = choose(text, "me", 7);
        }
        let _ = ServiceConfig::from_txt([&bytes], "", &mut rng);
        let record = [b"grpc_config=".as_slice(), &bytes].concat();
        let _ = ServiceConfig::from_txt([record], "", &mut rng);
    }

    #[test]
    fn depth_without_end_is_an_error(depth in 1_000usize..100_000) {
        prop_assert!(parse(&"[".repeat(depth)).is_err());
    }
}
