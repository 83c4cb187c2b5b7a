//! The one list of all cases.

/// Hands the list to a macro: `conformance_cases! { callback [arguments] }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($($callback:ident)::+ [$($arguments:tt)*]) => { $crate::__conformance_cases! { @ ($($callback)::+) [$($arguments)*] } };
    ($crate_:tt :: $callback:ident [$($arguments:tt)*]) => { $crate::__conformance_cases! { @ ($crate_ :: $callback) [$($arguments)*] } };
    (@ ($($callback:tt)+) [$($arguments:tt)*]) => {
        $($callback)+! {
            [$($arguments)*]
            enqueue {
                a_pending_task_is_stored_as_go_stores_it
                new_tasks_go_to_the_head
                a_taken_id_is_a_conflict_in_every_state
                the_same_id_in_another_queue_is_another_task
                a_batch_is_answered_per_item
                a_batch_may_concern_several_queues
                an_empty_batch_does_nothing
                a_long_batch_is_carried_out_whole
                large_payloads_are_carried_out_whole
                a_request_sent_again_is_success
                a_request_twice_in_one_batch_is_one_task
                the_answer_describes_the_task
                any_payload_and_any_name_is_kept
                the_queue_name_is_published_with_every_call
                a_container_of_the_wrong_type_refuses_the_call
            }
            schedule {
                a_scheduled_task_is_stored_as_go_stores_it
                process_at_is_floored
                a_time_that_has_passed_waits_for_the_forwarder
                ties_are_ordered_by_id
            }
            unique {
                the_lock_holds_the_id_for_its_ttl
                a_taken_lock_is_a_duplicate
                duplicate_wins_over_id_conflict
                an_id_conflict_leaves_no_lock
                queue_type_and_payload_make_the_lock
                a_grouped_task_records_its_lock
                a_scheduled_lock_includes_the_wait
                a_lock_lives_at_least_a_second
                success_frees_the_lock
                failure_keeps_the_lock
                a_lock_that_another_task_holds_is_left_alone
                no_other_key_is_treated_as_a_lock
                a_lock_of_another_place_is_refused
                a_lock_whose_time_is_over_is_free
                a_unique_request_sent_again_is_success
                a_request_sent_again_after_its_lock_is_told_by_hash_and_lock
            }
            groups {
                a_grouped_task_is_stored_as_go_stores_it
                groups_are_listed
                a_group_that_is_not_ready_is_left_alone
                a_full_group_gives_its_oldest_tasks
                the_oldest_task_ends_the_wait
                a_quiet_group_is_ready
                a_set_is_listed_and_its_group_forgotten
                sets_are_disjoint
                a_set_can_be_kept_longer
                finishing_replaces_the_set_by_its_result
                finishing_frees_own_locks_only
                a_set_that_was_handed_back_enqueues_nothing
                finishing_again_is_success
                a_result_that_conflicts_leaves_the_set
                a_result_may_be_placed_anywhere
                a_stale_set_is_handed_back
                a_group_with_colons_comes_back_under_its_name
                only_stale_sets_are_handed_back
                a_damaged_member_harms_only_itself
                a_set_without_usable_tasks_is_not_listed
            }
            exchange {
                a_taken_task_is_active_with_a_lease_and_our_token
                tasks_come_in_the_order_of_their_enqueue
                a_queue_that_had_less_is_told
                an_empty_queue_gives_nothing_and_gets_no_keys
                a_paused_queue_gives_nothing
                a_paused_queue_takes_outcomes
                several_queues_are_asked_in_one_call
                a_want_of_zero_takes_nothing
                one_call_is_bounded_in_tasks
                one_call_is_bounded_in_bytes
                each_call_has_a_token_of_its_own
                outcomes_are_written_before_tasks_are_taken
                outcomes_and_wants_may_concern_different_queues
                a_task_is_taken_once
                an_id_without_hash_is_dropped
                what_cannot_be_used_is_put_aside
                a_task_key_that_is_no_hash_is_put_aside
                a_container_of_the_wrong_type_fails_its_queue_alone
                tasks_come_in_the_order_of_the_wants
            }
            settle {
                done_deletes_the_task
                done_with_retention_keeps_the_task_as_completed
                a_revoked_task_is_deleted_in_spite_of_its_retention
                a_failure_waits_for_its_retry
                a_retry_that_is_no_failure_counts_nothing
                any_error_text_is_kept
                headers_survive_a_rewrite
                a_requeued_task_runs_next
                requeued_in_reverse_they_keep_their_order
                one_call_writes_outcomes_of_all_kinds
                any_number_of_outcomes_is_answered
                outcomes_of_several_queues_go_in_one_call
                counts_belong_to_the_utc_day
                a_day_lives_ninety_days_from_its_first_count
                a_full_total_starts_again
                a_damaged_counter_harms_no_outcome
                a_container_of_the_wrong_type_refuses_outcomes
                a_foreign_pending_since_goes_with_the_outcome
                a_retention_without_end_is_kept_for_ever
            }
            archive {
                an_archived_task_keeps_its_retries
                what_is_too_old_is_deleted
                trimming_frees_own_locks_only
                the_oldest_beyond_the_limit_are_deleted
                trimming_never_deletes_a_living_task
            }
            fence {
                an_outcome_is_written_once
                an_outcome_twice_in_one_call_is_written_once
                a_refused_outcome_harms_no_other
                a_new_task_under_the_same_id_is_not_ours
                a_recovered_task_is_not_its_old_owners
                a_task_that_go_took_is_not_ours
                a_lease_above_ours_is_not_ours
                a_lease_not_above_ours_is_ours
                a_missing_lease_does_not_void_the_claim
                an_id_outside_of_active_is_not_ours
                a_damaged_task_is_told_as_poison
                an_unknown_task_is_not_ours
                a_lost_take_is_adopted
                a_call_that_took_nothing_is_adopted_as_nothing
                what_was_taken_over_is_not_adopted
                what_go_took_since_is_not_adopted
                a_missing_lease_is_adopted
                an_adoption_can_be_repeated
                a_new_take_clears_the_mark_of_an_adoption
                adoption_walks_all_of_active
                an_id_twice_in_active_is_ended_once
                an_adoption_tells_the_lease_in_force
            }
            leases {
                an_extension_writes_a_new_lease
                a_batch_of_leases_is_answered_in_order
                any_number_of_leases_is_extended
                an_extension_never_shortens
                an_extension_never_makes_a_lease
                an_expired_lease_that_nobody_took_can_be_extended
                a_lease_set_of_the_wrong_type_is_told
            }
            forward {
                due_tasks_become_pending_in_order
                scheduled_comes_before_retry
                the_next_due_time_is_told
                what_is_not_due_stays
                one_call_moves_no_more_than_asked
                thousands_are_moved_call_after_call
                a_task_with_a_group_joins_it
                an_empty_group_is_none
                a_result_survives_the_wait
                damaged_tasks_harm_only_themselves
                a_container_of_the_wrong_type_refuses_the_call
            }
            recover {
                a_lease_is_over_thirty_seconds_after_its_end
                the_grace_is_the_callers
                no_more_than_asked_for_is_listed
                a_recovered_task_is_retried
                a_recovered_task_is_archived
                a_recovered_task_is_given_back
                a_task_whose_lease_was_never_extended_may_not_have_been_started
                a_task_that_was_held_or_is_anothers_counts_as_started
                recovery_as_done_is_refused
                the_lease_is_tested_again
                an_old_finding_does_not_touch_a_new_run
                a_task_that_go_took_is_recovered
                an_undecodable_message_does_not_stop_the_sweep
            }
            heal {
                what_is_whole_is_left_alone
                an_active_task_without_lease_gets_one
                a_stale_lease_is_removed
                a_forgotten_group_is_put_back
                an_active_id_without_task_is_put_aside
                an_unlisted_task_is_listed_again
                an_active_id_that_lives_elsewhere_leaves_active
                a_lock_without_owner_is_removed
                looks_that_follow_get_everywhere
                a_task_in_another_group_is_not_listed_again
                an_active_id_that_waits_in_another_group_leaves_active
                a_lost_entry_of_a_set_is_made_anew
                a_group_that_is_called_like_a_set_is_a_group
                one_connection_claims_the_repairs
            }
            janitor {
                a_completed_task_goes_when_its_retention_is_over
                one_call_deletes_no_more_than_asked
                damaged_ids_go_and_living_tasks_stay
                the_lock_of_another_stays
            }
            server_state {
                a_server_is_stored_as_go_stores_it
                each_beat_writes_the_workers_anew
                the_same_id_in_two_queues_is_two_workers
                servers_and_workers_are_read_as_written
                a_cleared_server_leaves_nothing
                a_server_that_does_not_beat_is_not_shown
                a_ttl_is_whole_seconds_and_at_least_one
                an_unreadable_server_is_left_out
                dead_names_leave_the_indexes
            }
            scheduler_state {
                entries_are_stored_as_go_stores_them
                each_beat_writes_the_entries_anew
                cleared_entries_leave_nothing
                a_ttl_is_at_least_one_second
                events_are_kept_by_time
                the_oldest_events_go
                a_cleared_history_leaves_nothing
                entries_are_read_as_written
                a_scheduler_that_does_not_beat_is_not_shown
                an_unreadable_entry_is_left_out
                events_are_listed_newest_first
                an_unreadable_event_is_left_out
            }
            ticks {
                the_first_tick_enqueues_its_task
                a_tick_is_decided_once
                of_many_at_once_one_enqueues
                a_tick_is_a_whole_second
                a_tick_keeps_its_gap
                a_duplicate_decides_the_tick
                an_id_conflict_decides_the_tick
                a_request_sent_again_is_answered_alike
                a_request_sent_again_after_a_later_tick_is_told_by_its_task
                a_scheduler_hears_of_its_tick_after_later_ones_of_others
                a_tick_that_is_only_asked_about_is_left_open
                a_period_starts_once
                a_finished_task_makes_room_for_that_of_a_tick
                the_lock_of_a_finished_task_makes_room_too
                only_a_finished_task_makes_room
                a_task_of_the_same_request_is_no_conflict
                a_mark_lives_as_long_as_asked
                a_mark_ends
                entries_and_queues_are_independent
                any_number_of_entries_is_read
                a_tick_may_enqueue_to_any_place
                a_damaged_mark_is_replaced
                a_refused_task_leaves_the_tick_open
                a_tick_wakes_those_who_wait
                a_closed_broker_takes_no_ticks
            }
            results {
                a_result_is_written_into_the_hash
                a_result_survives_retry_and_completion
                a_result_is_written_only_while_the_task_is_ours
            }
            progress {
                progress_is_a_field_of_our_own
                progress_is_of_one_run
                progress_is_written_only_while_the_task_is_ours
                progress_beyond_the_limits_is_refused
                a_progress_that_cannot_be_read_is_none
            }
            trees {
                a_tree_is_stored_as_json_with_an_end
                trees_are_read_as_written
                a_cleared_tree_leaves_nothing
                a_tree_that_ended_is_not_shown
                a_ttl_is_at_least_one_second
                an_unreadable_tree_is_left_out
            }
            cancellation {
                every_subscriber_hears_every_id
                a_cancel_for_nobody_is_lost
                a_subscription_ends_with_its_connection
                a_closed_broker_says_so
            }
            queues {
                queues_are_listed_sorted
                a_queue_counts_its_tasks
                a_queue_tells_its_counters
                the_latency_is_the_wait_of_the_next_task
                a_missing_pending_since_is_no_latency
                an_unknown_queue_does_not_exist
                memory_usage_survives_damage
                groups_are_told_with_their_sizes
                an_empty_group_is_left_out
                a_pause_is_a_key_with_its_second
                a_second_pause_is_told
                a_pause_is_of_one_queue
                a_counter_that_is_no_number_reads_as_none
            }
            tasks {
                lists_begin_at_the_tail
                sets_ascend
                aggregating_tasks_are_listed_by_group
                pages_count_from_one
                each_task_tells_its_state_and_next_run
                an_active_task_without_valid_lease_is_an_orphan
                what_is_not_there_is_told
                an_unreadable_task_is_told_and_hides_nothing
                an_unknown_state_is_told
                odd_values_of_foreign_programs_are_shown
                fields_of_strangers_are_left_alone
            }
            run_task {
                a_scheduled_task_runs_now
                a_task_waiting_for_its_retry_runs_now
                an_archived_task_runs_again
                a_grouped_task_runs_alone
                a_group_with_other_tasks_stays
                a_task_in_another_state_is_refused
                a_task_in_an_aggregation_set_is_refused
                what_cannot_be_run_is_told
                the_lock_stays_with_the_task
                an_earlier_claim_is_cleared
                damage_is_told_and_left_alone
                a_container_of_the_wrong_type_refuses
                a_waiting_server_is_woken
            }
            audit {
                a_healthy_queue_has_no_breaches
                an_id_without_task_is_found
                a_wrong_state_is_found
                a_task_in_no_place_or_two_is_found
                a_lease_that_does_not_fit_is_found
                a_wrong_pending_since_is_found
                a_wrong_group_index_is_found
                a_lock_without_owner_is_found
                a_wrong_counter_is_found
                an_unlisted_queue_is_found
                a_wrong_type_is_found
                a_large_queue_is_audited_to_the_end
                a_task_in_two_groups_is_found
            }
            watch {
                what_is_there_is_told_at_once
                a_push_wakes
                every_way_into_pending_wakes
                the_end_of_a_pause_wakes
                a_new_delayed_task_wakes
                a_task_that_waits_is_not_told_at_once
                a_watch_is_lost_with_its_connection
            }
        }
    };
}

pub(super) use crate::__conformance_cases as conformance_cases;
