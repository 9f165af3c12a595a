//! The difference between theirs and ours, line by line.

use console::style;
use similar::{ChangeTag, TextDiff};

/// Prints the lines that differ, with three around them; says whether there are any.
pub fn print(theirs: &str, ours: &str) -> bool {
    let diff = TextDiff::from_lines(theirs, ours);
    let groups = diff.grouped_ops(3);
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            println!("    {}", style("⋮").dim());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value().trim_end();
            match change.tag() {
                ChangeTag::Delete => println!("  {}", style(format!("- {line}")).red()),
                ChangeTag::Insert => println!("  {}", style(format!("+ {line}")).green()),
                ChangeTag::Equal => println!("    {line}"),
            }
        }
    }
    !groups.is_empty()
}
