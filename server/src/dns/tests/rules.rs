//! What holds for every answer, whatever is asked of whatever services.

use hickory_proto::op::ResponseCode;
use proptest::prelude::*;

use super::super::answer::View;
use super::answers::{answer, ips};
use super::*;

fn label() -> impl Strategy<Value = &'static str> {
    // Few, so that random names meet random services.
    proptest::sample::select(vec![
        "a",
        "b",
        "lb",
        "lb2",
        "_tcp",
        "_grpclb",
        "_grpc_config",
    ])
}

fn host() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

fn kind() -> impl Strategy<Value = RecordType> {
    any::<u16>().prop_flat_map(|any| {
        proptest::sample::select(vec![
            RecordType::A,
            RecordType::AAAA,
            RecordType::SRV,
            RecordType::TXT,
            RecordType::SOA,
            RecordType::NS,
            RecordType::from(any),
        ])
    })
}

proptest! {
    #[test]
    fn every_answer_keeps_the_rules(
        services in proptest::collection::vec(host(), 0..4),
        target in proptest::option::of(host()),
        asked in proptest::collection::vec(label(), 0..6),
        kind in kind(),
        backends in proptest::option::of(0u8..20),
        turn: usize,
    ) {
        let config = DnsConfig { target: target.clone(), ..config() };
        let services: Vec<[&str; 1]> = services.iter().map(|name| [name.as_str()]).collect();
        let services: Vec<&[&str]> = services.iter().map(|names| &names[..]).collect();
        let zone = zone_of(&config, &["10.9.0.1:9000", "10.9.0.1:9100"], &services);
        let asked = format!("{}.", asked.join("."));
        let query = query(&asked, kind);
        let backends = backends.map(ips);
        let view = View { zone: Some(&zone), backends: backends.as_deref(), turn };
        let found = answer(&query, view);

        // All names there are, and the zones they are in.
        let targets = |apex: &str| -> Vec<String> {
            let (first, rest) = apex.split_once('.').unwrap_or((apex, ""));
            vec![format!("{first}.{rest}"), format!("{first}2.{rest}")]
        };
        let mut apexes: Vec<String> = services.iter().map(|names| names[0].to_owned()).collect();
        let mut names: Vec<String> = apexes
            .iter()
            .flat_map(|host| [
                format!("_grpclb._tcp.{host}"),
                format!("_grpc_config.{host}"),
                format!("lb.{host}"),
                format!("lb2.{host}"),
            ].into_iter().filter(|name| target.is_none() || !name.starts_with("lb")))
            .collect();
        if let Some(target) = &target {
            apexes.extend(targets(target));
        }
        names.extend(apexes.clone());
        let dotted = |name: &str| format!(".{}.", name.trim_end_matches('.'));
        let is_within = |name: &str, zone: &str| dotted(name).ends_with(&dotted(zone));
        let exists = asked != "." && names.iter().any(|name| is_within(name, &asked));
        let below = apexes.iter().any(|apex| is_within(&asked, apex));

        match found.code {
            ResponseCode::NXDomain => prop_assert!(!exists && below),
            ResponseCode::Refused => {
                let meta = kind == RecordType::OPT || (128..256).contains(&u16::from(kind));
                prop_assert!(meta || !below);
            }
            ResponseCode::ServFail => prop_assert!(backends.is_none()),
            code => {
                prop_assert_eq!(code, ResponseCode::NoError);
                prop_assert!(exists && below);
            }
        }
        let denied = found.authoritative && found.answers.is_empty();
        prop_assert_eq!(found.authorities.len(), usize::from(denied));
        for soa in &found.authorities {
            prop_assert_eq!(soa.record_type(), RecordType::SOA);
            prop_assert!(soa.name.zone_of(query.name()));
        }
        for record in &found.answers {
            prop_assert_eq!(record.record_type(), kind);
            prop_assert_eq!(&record.name, query.name());
        }
    }
}
