use super::*;

#[test]
fn an_empty_file_is_the_defaults() {
    let config = parse("", "a.toml").unwrap();
    assert_eq!(config.balancer, BalancerConfig::default());
    assert_eq!(config.admin, AdminConfig::default());
    assert_eq!(config.dns, None);
    assert_eq!(config.services, []);
}
