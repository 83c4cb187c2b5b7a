//! The Lua scripts, one file for each operation (`lua/*.lua`), with the parts they share in front
//! (`lua/include/*.lua`).
//!
//! All keys of a script belong to one queue and share its hash tag, or are single keys that stand
//! alone, so each script keeps to one cluster slot. Outside of a cluster, a record travels with its index. A script refuses a call before any write with
//! the array `{WRONGTYPE, key}`; see [`reply`](crate::reply).

use crate::link::Script;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal [$($include:literal)*];)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: Script = Script::new(
                $file,
                concat!(
                    $(include_str!(concat!("../lua/include/", $include, ".lua")), "\n",)*
                    include_str!(concat!("../lua/", $file, ".lua")),
                ),
            );
        )*

        /// All scripts, with the includes of each.
        #[cfg(test)]
        pub(crate) const ALL: &[(&Script, &[&str])] = &[$((&$name, &[$($include),*])),*];
    };
}

scripts! {
    /// New tasks.
    ENQUEUE = "enqueue" ["enqueue_plain" "container" "exact" "create"];
    /// The task of a tick.
    ENQUEUE_TICK = "enqueue_tick" ["container" "exact" "lock" "create"];
    /// Outcomes, then a take.
    EXCHANGE = "exchange"
        ["chunks" "active" "exchange_plain" "container" "lock" "aside" "archive" "count" "exact" "settle"];
    /// Outcomes in the stead of dead owners.
    RECOVER = "recover" ["container" "chunks" "lock" "archive" "count" "exact" "active" "settle"];
    /// One task whose message cannot be decoded.
    QUARANTINE = "quarantine" ["container" "aside"];
    /// Adopts the tasks of a lost call.
    ADOPT = "adopt" ["container" "aside"];
    /// Lease extension.
    EXTEND_LEASES = "extend_leases" ["container"];
    /// Results of handlers, and how far they have come.
    WRITE_RESULT = "write_result" ["container"];
    /// Delayed tasks that are due.
    FORWARD = "forward" ["container" "chunks" "aside"];
    /// Leases that ended.
    EXPIRED = "expired" ["container" "chunks" "aside"];
    /// Active entries and leases.
    HEAL = "heal" ["container" "chunks" "aside" "places"];
    /// The right to repair a queue.
    CLAIM_HEAL = "claim_heal" [];
    /// Ids in a list.
    SEARCH_LIST = "search_list" [];
    /// Groups that hold a task.
    SEARCH_GROUPS = "search_groups" [];
    /// Groups, sets and locks.
    HEAL_KEYS = "heal_keys" ["container" "places" "stands" "set_name" "mend"];
    /// Tasks that do not stand where their state says.
    RELIST = "relist" ["container" "aside" "places" "seen" "listing"];
    /// Completed tasks whose retention is over.
    DELETE_EXPIRED = "delete_expired" ["container" "chunks"];
    /// Groups with tasks.
    GROUPS = "groups" ["container"];
    /// A new aggregation set.
    COLLECT_GROUP = "collect_group" ["container"];
    /// The tasks of an aggregation set.
    READ_SET = "read_set" ["container" "aside"];
    /// A later or sooner end of an aggregation set.
    END_SET = "end_set" ["container"];
    /// The aggregated task for its parts.
    FINISH_AGGREGATION = "finish_aggregation" ["container" "exact" "create"];
    /// The parts that the aggregated task replaces.
    FORGET_FINISHED = "forget_finished" ["container" "chunks" "lock"];
    /// Ids without a task.
    DROP_DANGLING = "drop_dangling" ["container" "chunks"];
    /// Aggregation sets that outlived their time.
    RECLAIM_SETS = "reclaim_sets" ["container"];
    /// An entry of a global index.
    ANNOUNCE = "announce" ["container" "index"];
    /// A server and its workers.
    WRITE_SERVER = "write_server" ["container" "index" "chunks"];
    /// The entries of a scheduler.
    WRITE_ENTRIES = "write_entries" ["chunks"];
    /// The supervision tree of a server.
    WRITE_TREE = "write_tree" ["container" "index"];
    /// Statistics of a server.
    WRITE_STATISTICS = "write_statistics" ["container"];
    /// The history of a scheduler entry.
    RECORD_EVENT = "record_event" ["container"];
    /// An act of an operator.
    RECORD_ACT = "record_act" ["container"];
    /// Answers whether a task may be taken.
    PROBE_PENDING = "probe_pending" [];
    /// The sets of delayed tasks.
    PROBE_DELAYED = "probe_delayed" [];
    /// The numbers of a queue.
    QUEUE_INFO = "queue_info" ["container"];
    /// The facts that findings are made of.
    QUEUE_FACTS = "queue_facts" ["container"];
    /// About how much memory a queue takes.
    MEMORY_USAGE = "memory_usage" [];
    /// A page of tasks.
    LIST_TASKS = "list_tasks" ["container" "aside" "listed"];
    /// The next part of a container.
    SCAN_TASKS = "scan_tasks" ["container" "aside" "listed" "behind"];
    /// One task.
    TASK_INFO = "task_info" ["aside"];
    /// The state of one task.
    TASK_STATE = "task_state" ["aside"];
    /// A task that waits, now.
    RUN_TASK = "run_task" ["container" "aside"];
    /// A task that waits, put into the archive.
    ARCHIVE_TASK = "archive_task" ["container" "aside" "chunks" "lock" "archive"];
    /// One task that goes.
    DELETE_TASK = "delete_task" ["container" "lock"];
    /// Another payload for a task that waits.
    UPDATE_PAYLOAD = "update_payload" ["aside"];
    /// Another time for a task that waits.
    RESCHEDULE = "reschedule" ["container" "aside" "exact"];
    /// Some of the tasks of a container.
    ACT_ON_SOME = "act_on_some" ["container" "aside" "chunks" "lock" "archive" "behind" "acts"];
    /// Some tasks that were read before.
    ACT_ON_THESE = "act_on_these" ["container" "aside" "chunks" "lock" "archive" "acts"];
    /// A queue that goes.
    DELETE_QUEUE = "delete_queue" ["container" "chunks" "lock"];
    /// The end of a run, on request.
    CANCEL = "cancel" ["aside"];
    /// The ids of a container against their tasks.
    AUDIT_CONTAINER = "audit_container" ["container" "aside" "places" "resume"];
    /// Answers where tasks are.
    AUDIT_PLACES = "audit_places" ["container" "places" "seen"];
    /// Leases against active tasks.
    AUDIT_LEASES = "audit_leases" ["container" "places" "resume"];
    /// The index of groups against the groups.
    AUDIT_GROUPS = "audit_groups" [];
    /// The keys of a queue against its containers.
    AUDIT_KEYS = "audit_keys" ["container" "places" "stands" "set_name" "counter_faults"];
    /// Breaches of tasks.
    REPAIR_TASKS = "repair_tasks" ["container" "aside" "places" "set_name" "listing"];
    /// Breaches of groups, locks and counters.
    REPAIR_KEYS = "repair_keys" ["container" "places" "set_name" "mend" "counter_faults"];
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn files(dir: &str) -> BTreeSet<String> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let lua = entries.filter(|path| path.extension().is_some_and(|ext| ext == "lua"));
        lua.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn each_file_is_registered_once_and_the_other_way_round() {
        let names: Vec<_> = ALL.iter().map(|(script, _)| script.name.to_owned()).collect();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "a name twice");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), files("lua"));
        let included: BTreeSet<_> = ALL
            .iter()
            .flat_map(|(_, parts)| parts.iter().map(|part| (*part).to_owned()))
            .collect();
        assert_eq!(included, files("lua/include"));
    }

    #[test]
    fn each_file_begins_with_its_contract() {
        for (script, parts) in ALL {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
            let text = fs::read_to_string(dir.join(format!("{}.lua", script.name))).unwrap();
            let header: Vec<_> = text.lines().take_while(|line| line.starts_with("--")).collect();
            assert!(
                header[0].starts_with(&format!("-- {}: ", script.name)),
                "{}",
                script.name
            );
            for part in ["-- KEYS  ", "-- returns "] {
                assert!(
                    header.iter().any(|line| line.starts_with(part)),
                    "{} lacks {part:?}",
                    script.name
                );
            }
            let code = text.lines().filter(|line| !line.starts_with("--")).collect::<String>();
            if code.contains("ARGV") {
                assert!(
                    header.iter().any(|line| line.starts_with("-- ARGV  ")),
                    "{} lacks ARGV",
                    script.name
                );
            }
            assert_eq!(
                code.contains("wrong_type("),
                header.join(" ").contains("{WRONGTYPE, key}"),
                "{}",
                script.name
            );
            for part in *parts {
                let text = fs::read_to_string(dir.join(format!("include/{part}.lua"))).unwrap();
                assert!(text.starts_with("-- include: "), "{part}");
            }
        }
    }

    #[test]
    fn no_script_uses_what_redis_6_2_does_not_have() {
        for (script, _) in ALL {
            for new in [
                "#!lua",
                "LPOP",
                "LMPOP",
                "ZMPOP",
                "EXPIRETIME",
                "SINTERCARD",
                "redis.setresp",
                "XX', 'EX",
            ] {
                assert!(!script.source.contains(new), "{} uses {new}", script.name);
            }
        }
    }

    /// A key may hold any bytes, and an error reply must be text: `wrong_type` puts the key into an array.
    #[test]
    fn no_script_makes_an_error_reply_of_its_own() {
        for (script, _) in ALL {
            for made in ["error_reply", "error(", "assert(", "err ="] {
                assert!(!script.source.contains(made), "{} uses {made}", script.name);
            }
        }
    }
}
