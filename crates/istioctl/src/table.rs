//! Columns as Go's tabwriter lays them out: cells padded with spaces to the widest of their column, the last cell of
//! a line left as it is.

use std::fmt::Write as _;

/// Lays rows out; `padding` spaces follow the widest cell of each column.
pub fn columns(rows: &[Vec<String>], padding: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        // The last cell of a line is no column.
        .map(|column| {
            rows.iter()
                .filter(|row| column + 1 < row.len())
                .map(|row| width(&row[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let gap = widths[column] + padding - width(cell);
                write!(text, "{:gap$}", "").ok();
            }
        }
        text.push('\n');
    }
    text
}

/// Characters, as tabwriter counts them.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// A row of texts.
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            row(["TAG", "REVISION", "NAMESPACES"]),
            row(["prod-canary", "1-23-1", ""]),
            row(["", "x", "a,b"]),
        ];
        assert_eq!(
            columns(&rows, 1),
            "TAG         REVISION NAMESPACES\nprod-canary 1-23-1   \n            x        a,b\n"
        );
    }
}
