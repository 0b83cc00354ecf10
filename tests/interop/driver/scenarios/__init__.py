"""The scenarios, in the order they are played."""

from . import churn, drops, examples, foreign, outages, removal, tls, traffic

ALL = (
    traffic.shares_follow_weights,
    traffic.fractional_weights_are_followed,
    traffic.service_is_found_with_a_port_and_in_capitals,
    traffic.ipv6_all_the_way,
    traffic.edited_weight_is_followed,
    traffic.drained_backend_gets_nothing_more,
    traffic.fully_drained_service_fails_fast_and_recovers,
    traffic.client_stats_arrive,
    drops.drop_a_quarter_at_3_1,
    drops.drop_a_twentieth_at_5_3_1,
    drops.drop_in_two_categories,
    churn.backends_replaced_one_by_one,
    churn.backends_replaced_all_at_once,
    churn.edits_in_quick_succession,
    churn.broken_file_changes_nothing,
    tls.tls_with_the_name_of_the_srv_target,
    outages.balancer_killed_and_restarted,
    outages.balancer_shut_down_and_restarted,
    outages.balancer_and_backends_lost_and_returned,
    outages.second_balancer_takes_over,
    outages.balancer_that_starts_slowly,
    removal.removed_service_keeps_its_clients,
    removal.removed_service_may_be_looked_up_again,
    removal.without_the_grpclb_import,
    foreign.balancer_of_grpc_go,
    foreign.balancer_of_grpc_go_that_ends_every_stream,
    foreign.balancer_of_grpc_go_killed,
    examples.example_runs_as_its_readme_says,
)
