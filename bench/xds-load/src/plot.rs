//! Histograms as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 48.0;
const BINS: usize = 60;
const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#dc2626"];

/// How often values occur, one outline for each series.
pub fn histogram(title: &str, unit: &str, series: &[(String, &[f64])]) -> String {
    let largest = series
        .iter()
        .flat_map(|(_, values)| values.iter())
        .fold(0.0_f64, |a, b| a.max(*b));
    let counted: Vec<(&String, [usize; BINS])> = series
        .iter()
        .map(|(name, values)| (name, bins(values, largest)))
        .collect();
    let highest = counted
        .iter()
        .flat_map(|(_, bins)| bins)
        .copied()
        .max()
        .unwrap_or(0)
        .max(1);
    let (plot_width, plot_height) = (WIDTH - 2.0 * MARGIN, HEIGHT - 2.0 * MARGIN);
    let x = |bin: usize| MARGIN + plot_width * bin as f64 / BINS as f64;
    let y = |count: usize| HEIGHT - MARGIN - plot_height * count as f64 / highest as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{MARGIN}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    let _ = writeln!(
        svg,
        "<path d=\"M{MARGIN} {MARGIN}V{0}H{1}\" fill=\"none\" stroke=\"#444\"/>\n<text x=\"{MARGIN}\" y=\"{2}\">0</text>\n<text x=\"{1}\" y=\"{2}\" text-anchor=\"end\">{largest:.1} {unit}</text>\n<text x=\"{3}\" y=\"{4}\" text-anchor=\"end\">{highest}</text>",
        HEIGHT - MARGIN,
        WIDTH - MARGIN,
        HEIGHT - MARGIN + 16.0,
        MARGIN - 4.0,
        MARGIN + 4.0
    );
    for (index, (name, bins)) in counted.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = format!("M{:.1} {:.1}", x(0), y(0));
        for (bin, count) in bins.iter().enumerate() {
            let _ = write!(path, "V{:.1}H{:.1}", y(*count), x(bin + 1));
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}V{:.1}Z\" fill=\"{colour}\" fill-opacity=\"0.25\" stroke=\"{colour}\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
            y(0),
            WIDTH - MARGIN,
            MARGIN + 16.0 * index as f64,
            escaped(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn bins(values: &[f64], largest: f64) -> [usize; BINS] {
    let mut bins = [0; BINS];
    for value in values {
        let at = if largest > 0.0 {
            value / largest * BINS as f64
        } else {
            0.0
        };
        bins[(at as usize).min(BINS - 1)] += 1;
    }
    bins
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bin() {
        let values = [0.0, 0.5, 1.0, 30.0, 60.0];
        assert_eq!(bins(&values, 60.0).iter().sum::<usize>(), values.len());
        assert_eq!(bins(&values, 60.0)[BINS - 1], 1);
    }

    #[test]
    fn names_do_not_become_markup() {
        let svg = histogram("a < b", "s", &[("x & y".to_owned(), &[1.0])]);
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y") && !svg.contains("x & y"));
    }
}
