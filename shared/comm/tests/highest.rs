//! What ranks agree on.

mod ranks;

use ranks::{Over, run};

#[test]
fn the_highest_number_is_known_to_all_whoever_brings_it() {
    for over in [Over::Threads, Over::Tcp] {
        for world in [1, 2, 3, 4, 5, 7, 8, 9] {
            for bringer in 0..world {
                let found = run(over, world, |group| {
                    let mine = |high| if group.rank() == bringer { high } else { 3 };
                    // Nobody; one rank; and one beyond what 32 bits hold.
                    [3, 7, 1 << 40].map(|high| group.highest(mine(high)).unwrap())
                });
                assert_eq!(
                    found,
                    vec![[3, 7, 1 << 40]; world],
                    "{over:?}, rank {bringer} of {world}"
                );
            }
        }
    }
}
