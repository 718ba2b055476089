//! Runs the pure path as often as its argument says, for `hack/instructions.sh` to count instructions.
//!
//! usage: instructions <injected|skipped> <times>

mod pod;

use std::hint::black_box;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (case, times) = match arguments.as_slice() {
        // As `cargo bench` runs it, among others: nobody counts.
        [] => return ExitCode::SUCCESS,
        [case, times] => (case.as_str(), times.parse::<u32>()),
        _ => return ExitCode::from(2),
    };
    let (world, asking, indifferent) = (pod::World::default(), pod::asking(), pod::indifferent());
    match (case, times) {
        ("injected", Ok(times)) => {
            for _ in 0..times {
                black_box(pod::admit(black_box(&asking), &world));
            }
        }
        ("skipped", Ok(times)) => {
            for _ in 0..times {
                black_box(pod::skips(black_box(&indifferent)));
            }
        }
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}
