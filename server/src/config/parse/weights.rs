//! The keys of a service that say how its backends are weighed.

use std::time::Duration;

use super::MILLISECOND;
use super::read::{Node, Table};
use crate::config::error::Faults;
use crate::config::nearest::list;
use crate::weights::{PolicyChoice, WeightSettings};

/// A backend that needs longer than this to warm up should be drained.
const SLOW_START: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));

/// Reads `policy`, `shadow`, `blend`, `slow_start` and `ejection` of a service.
pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults) -> WeightSettings {
    let usual = WeightSettings::default();
    let policy = table.take("policy");
    let policy = policy.and_then(|node| read_policy(&node, faults));
    let policy = policy.unwrap_or(usual.policy);
    let shadow = table.take("shadow").and_then(|node| {
        let shadow = read_policy(&node, faults)?;
        if shadow == policy {
            let message = format!(
                "`{}` is the policy already; name another, or remove it",
                shadow.name()
            );
            faults.clash(&node.place, message);
        }
        Some(shadow)
    });
    let blend = table.take("blend");
    let blend = blend.and_then(|node| read_blend(&node, faults));
    let slow_start = table.take("slow_start");
    let slow_start =
        slow_start.and_then(|node| node.duration(faults, "\"30s\"", SLOW_START, MILLISECOND));
    let ejection = table.take("ejection");
    let ejection = ejection.and_then(|node| node.boolean(faults, "true"));
    WeightSettings {
        policy,
        shadow,
        blend: blend.unwrap_or(usual.blend),
        slow_start,
        ejection,
        ..usual
    }
}

fn read_policy(node: &Node<'_>, faults: &mut Faults) -> Option<PolicyChoice> {
    let name = node.text(faults, "\"feedback\"")?;
    let choice = PolicyChoice::named(name);
    if choice.is_none() {
        let known = list(PolicyChoice::BUILT_IN.map(PolicyChoice::name));
        let message = format!("there is no policy `{name}`; there are {known}");
        faults.wrong(&node.place, message);
    }
    choice
}

fn read_blend(node: &Node<'_>, faults: &mut Faults) -> Option<f64> {
    let blend = node.number(faults, "0.25")?;
    if blend > 0.0 && blend <= 1.0 {
        return Some(blend);
    }
    let message = format!(
        "blend {blend} is out of range; write a number above 0 and at most 1 (0.25 is a quarter \
         of the policy's weights), or shadow = \"…\" to publish nothing of a policy"
    );
    faults.wrong(&node.place, message);
    None
}
