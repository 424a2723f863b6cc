//! Rows as tables for `docs/bench/control.md`.

use crate::{NotCarried, Report, measure::Row};

const GRPC: &str = "\
| nodes | limits | changing | tick p99 ms | commit p50, p99 ms | ticks kept | node kbit/s | voter kB/s | leader cores | all cores | waiting | MiB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";
const SIMULATED: &str = "\
| nodes | limits | changing | tick p50, p99 ms | answers p99 ms | node kbit/s | voter kB/s | ticks to converge | MiB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
";

/// Both tables, and what two cores do not carry.
pub(crate) fn markdown(report: &Report) -> String {
    let rows = |transport: &str, line: fn(&Row) -> String| {
        let of_it = report.rows.iter().filter(|row| row.transport == transport);
        of_it.map(line).collect::<String>()
    };
    format!(
        "## Over gRPC\n\n{GRPC}{}\n{}\n## Simulated\n\n{SIMULATED}{}",
        rows("grpc", grpc),
        report
            .not_carried
            .iter()
            .map(not_carried)
            .collect::<String>(),
        rows("simulated", simulated),
    )
}

fn grpc(row: &Row) -> String {
    format!(
        "| {} | {} | {} % | {:.1} | {}, {} | {} % | {} | {} | {} | {} | {} | {:.0} |\n",
        row.nodes,
        row.limits,
        row.changing,
        row.tick_ms_p99,
        number(row.commit_ms_p50, 1),
        number(row.commit_ms_p99, 1),
        number(row.committed_share.map(|share| 100.0 * share), 1),
        kilobits(row.bytes_per_node_s),
        kilobytes(row.bytes_per_voter_s),
        number(row.leader_cores, 2),
        number(row.processor_cores, 2),
        number(row.waited_cores, 2),
        row.resident_mib,
    )
}

fn simulated(row: &Row) -> String {
    format!(
        "| {} | {} | {} % | {:.1}, {:.1} | {:.1} | {} | {} | {} | {:.0} |\n",
        row.nodes,
        row.limits,
        row.changing,
        row.tick_ms_p50,
        row.tick_ms_p99,
        row.answers_ms_p99,
        kilobits(row.bytes_per_node_s),
        kilobytes(row.bytes_per_voter_s),
        row.convergence_ticks_p99
            .map_or("–".to_owned(), |ticks| ticks.to_string()),
        row.resident_mib,
    )
}

fn not_carried(setting: &NotCarried) -> String {
    format!(
        "- Not carried: {} nodes with {} limits, {} % changing: {}.\n",
        setting.nodes, setting.limits, setting.changing, setting.why,
    )
}

fn number(number: Option<f64>, digits: usize) -> String {
    number.map_or("–".to_owned(), |number| format!("{number:.digits$}"))
}

fn kilobits(bytes: Option<f64>) -> String {
    number(bytes.map(|bytes| bytes * 8.0 / 1e3), 1)
}

fn kilobytes(bytes: Option<f64>) -> String {
    number(bytes.map(|bytes| bytes / 1e3), 1)
}
