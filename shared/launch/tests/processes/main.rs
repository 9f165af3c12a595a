//! Worlds of processes: how they meet, whom they let in, and how one death ends them all.
//!
//! The test binary itself is the program that is launched: as `processes demo …` it is a
//! rank (or the launcher of ranks), otherwise it runs the tests.

mod by_hand;
mod by_launcher;
mod demo;
mod differences;
mod world;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("demo") {
        demo::main(arguments);
    }
    let tests = [by_launcher::TESTS, by_hand::TESTS, differences::TESTS].concat();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
