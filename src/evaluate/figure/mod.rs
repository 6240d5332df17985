//! Figures as SVG, drawn here so that a page needs no other files; also as PNG.
//!
//! This module draws axes and series and does not know their meaning.

mod axis;
mod raster;

use std::fmt::Write;

pub(super) use axis::{Axis, AxisScale};
pub use raster::FigureError;
pub(super) use raster::png;

/// Size of the figure in SVG pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 460.0;
/// Frame of the axes: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (78.0, 44.0, 700.0, 396.0);
/// Colours of Okabe and Ito (2008), distinguishable with colour vision deficiency; without yellow, which is invisible
/// on white.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// Further series repeat the colours with other strokes.
const STROKES: [&str; 3] = ["", "7 4", "2 3"];
const INK: &str = "#222222";
const FAINT: &str = "#e2e2e2";
/// Line height of text.
const LINE: f64 = 19.0;
/// Width of a letter relative to its size, to reserve space for the legend.
const LETTER: f64 = 0.56;
const LEGEND_SIZE: f64 = 13.0;
/// Maximum legend entries; then a line gives the number of the others.
const LEGEND_MAX: usize = 12;

/// Series over two axes.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// File name.
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    pub(super) legend: LegendCorner,
}

#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) shape: SeriesShape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeriesShape {
    Line,
    /// Steps from each point to the next, filled to the axis.
    Filled,
    /// Thin and grey: a reference line.
    Guide,
    /// Rings at values of interest.
    Marks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LegendCorner {
    TopRight,
    BottomRight,
    TopLeft,
}

impl Figure {
    /// The figure as a standalone SVG document, which may also be embedded in a page.
    pub(super) fn svg(&self) -> String {
        let mut svg = String::with_capacity(1 << 14);
        let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a text grows");
        put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" fill=\"{INK}\" role=\"img\" aria-label=\"{title}\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{x}\" y=\"28\" font-size=\"17\">{title}</text>\n",
            title = escaped(&self.title),
            x = FRAME.0,
        ));
        put(format_args!("{}", self.grid()));
        put(format_args!(
            "<clipPath id=\"in-{}\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n\
             <g clip-path=\"url(#in-{})\">\n",
            self.name,
            FRAME.0,
            FRAME.1,
            FRAME.2 - FRAME.0,
            FRAME.3 - FRAME.1,
            self.name
        ));
        for (series, look) in self.looks() {
            put(format_args!("{}", self.drawn(series, look)));
        }
        put(format_args!(
            "</g>\n<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"{INK}\"/>\n",
            FRAME.0,
            FRAME.1,
            FRAME.2 - FRAME.0,
            FRAME.3 - FRAME.1
        ));
        put(format_args!("{}</svg>\n", self.legend()));
        svg
    }

    /// Each series with the index of its colour and stroke; guides have none, and marks use the colour of the previous
    /// series.
    fn looks(&self) -> Vec<(&Series, usize)> {
        let mut next = 0;
        let look = |series| match series {
            SeriesShape::Line | SeriesShape::Filled => {
                next += 1;
                next - 1
            }
            SeriesShape::Guide | SeriesShape::Marks => usize::saturating_sub(next, 1),
        };
        let looks: Vec<usize> = self.series.iter().map(|series| series.shape).map(look).collect();
        self.series.iter().zip(looks).collect()
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = FRAME.0 + self.x.place(x) * (FRAME.2 - FRAME.0);
        (across, FRAME.3 - self.y.place(y) * (FRAME.3 - FRAME.1))
    }

    fn grid(&self) -> String {
        let mut svg = String::new();
        let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("a text grows");
        for (value, words) in self.x.ticks() {
            let (x, _) = self.place((value, self.y.low));
            put(format_args!(
                "<path d=\"M{x:.1} {}V{}\" stroke=\"{FAINT}\"/><text x=\"{x:.1}\" y=\"{}\" font-size=\"12\" \
                 text-anchor=\"middle\">{words}</text>\n",
                FRAME.1,
                FRAME.3,
                FRAME.3 + 18.0
            ));
        }
        for (value, words) in self.y.ticks() {
            let (_, y) = self.place((self.x.low, value));
            put(format_args!(
                "<path d=\"M{} {y:.1}H{}\" stroke=\"{FAINT}\"/><text x=\"{}\" y=\"{:.1}\" font-size=\"12\" \
                 text-anchor=\"end\">{words}</text>\n",
                FRAME.0,
                FRAME.2,
                FRAME.0 - 7.0,
                y + 4.0
            ));
        }
        let (middle, height) = (f64::midpoint(FRAME.0, FRAME.2), f64::midpoint(FRAME.1, FRAME.3));
        put(format_args!(
            "<text x=\"{middle}\" y=\"{}\" font-size=\"14\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {height}) rotate(-90)\" font-size=\"14\" text-anchor=\"middle\">{}</text>\n",
            HEIGHT - 18.0,
            escaped(&self.x.label),
            escaped(&self.y.label)
        ));
        svg
    }

    fn drawn(&self, series: &Series, look: usize) -> String {
        let (colour, dashes) = (COLOURS[look % COLOURS.len()], STROKES[look / COLOURS.len() % STROKES.len()]);
        let places = series.points.iter().map(|point| self.place(*point));
        let mut path = String::new();
        match series.shape {
            SeriesShape::Marks => {
                for (x, y) in places {
                    writeln!(
                        path,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"#ffffff\" stroke=\"{colour}\" \
                         stroke-width=\"2.2\"/>"
                    )
                    .expect("a text grows");
                }
                return path;
            }
            SeriesShape::Filled => {
                let ground = FRAME.3;
                let mut before = None;
                for (x, y) in places {
                    match before {
                        None => write!(path, "M{x:.1} {ground:.1}V{y:.1}"),
                        Some(_) => write!(path, "H{x:.1}V{y:.1}"),
                    }
                    .expect("a text grows");
                    before = Some(x);
                }
                write!(path, "V{ground:.1}Z").expect("a text grows");
                return format!(
                    "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.35\" stroke=\"{colour}\" \
                     stroke-width=\"1.5\"/>\n"
                );
            }
            SeriesShape::Line | SeriesShape::Guide => {
                for (number, (x, y)) in places.enumerate() {
                    write!(path, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' }).expect("a text grows");
                }
            }
        }
        let (colour, width, dashes) =
            if series.shape == SeriesShape::Guide { ("#999999", 1.2, "4 4") } else { (colour, 2.2, dashes) };
        format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\" \
             stroke-dasharray=\"{}\"/>\n",
            if dashes.is_empty() { "none" } else { dashes }
        )
    }

    fn legend(&self) -> String {
        let named: Vec<(&Series, usize)> = self.looks().into_iter().filter(|(s, _)| !s.name.is_empty()).collect();
        let more = named.len().saturating_sub(LEGEND_MAX);
        let mut rows: Vec<(String, Option<(&Series, usize)>)> =
            named.iter().take(LEGEND_MAX).map(|(s, look)| (s.name.clone(), Some((*s, *look)))).collect();
        if more > 0 {
            rows.push((format!("and {more} more"), None));
        }
        if rows.is_empty() {
            return String::new();
        }
        let letters = rows.iter().map(|(words, _)| words.chars().count()).max().unwrap_or_default();
        let (width, height) = (letters as f64 * LEGEND_SIZE * LETTER + 52.0, rows.len() as f64 * LINE + 10.0);
        let left = if self.legend == LegendCorner::TopLeft { FRAME.0 + 10.0 } else { FRAME.2 - 10.0 - width };
        let top = if self.legend == LegendCorner::BottomRight { FRAME.3 - 10.0 - height } else { FRAME.1 + 10.0 };
        let mut svg = format!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#ffffff\" \
             fill-opacity=\"0.88\" stroke=\"{FAINT}\"/>\n"
        );
        for (row, (words, series)) in rows.iter().enumerate() {
            let y = top + 5.0 + LINE * (row as f64 + 0.5);
            if let Some((series, look)) = series {
                svg.push_str(&sample(series.shape, *look, left + 8.0, y));
            }
            writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{LEGEND_SIZE}\">{}</text>",
                left + 44.0,
                y + 4.5,
                escaped(words)
            )
            .expect("a text grows");
        }
        svg
    }
}

/// A legend sample of a series.
fn sample(shape: SeriesShape, look: usize, x: f64, y: f64) -> String {
    let (colour, dashes) = (COLOURS[look % COLOURS.len()], STROKES[look / COLOURS.len() % STROKES.len()]);
    let dashes = if dashes.is_empty() { "none" } else { dashes };
    match shape {
        SeriesShape::Line => format!(
            "<path d=\"M{x:.1} {y:.1}h28\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-dasharray=\"{dashes}\"/>\n"
        ),
        SeriesShape::Guide => format!(
            "<path d=\"M{x:.1} {y:.1}h28\" stroke=\"#999999\" stroke-width=\"1.2\" stroke-dasharray=\"4 4\"/>\n"
        ),
        SeriesShape::Filled => format!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"28\" height=\"11\" fill=\"{colour}\" fill-opacity=\"0.35\" \
             stroke=\"{colour}\"/>\n",
            y - 5.5
        ),
        SeriesShape::Marks => format!(
            "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"#ffffff\" stroke=\"{colour}\" stroke-width=\"2.2\"/>\n",
            x + 14.0
        ),
    }
}

/// Escapes text for SVG and HTML content and attributes. Characters that XML forbids are removed.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn example(series: usize) -> Figure {
        let line = |number: usize| Series {
            name: format!("series <{number}> & co"),
            points: (0..50).map(|i| (f64::from(i), (number + 1) as f64 * f64::from(i))).collect(),
            shape: if number == 1 { SeriesShape::Filled } else { SeriesShape::Line },
        };
        Figure {
            name: "example",
            title: "\"Two\" <b>bold</b> lines".to_owned(),
            x: Axis::new("how many", AxisScale::Linear, 0.0, 50.0),
            y: Axis::new("how much", AxisScale::Linear, 0.0, 100.0),
            series: (0..series).map(line).collect(),
            legend: LegendCorner::TopLeft,
        }
    }

    #[test]
    fn text_is_escaped_and_points_are_within_the_frame() {
        let svg = example(2).svg();
        assert!(svg.contains("&quot;Two&quot; &lt;b&gt;bold&lt;/b&gt; lines") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("series &lt;1&gt; &amp; co"));
        let figure = example(1);
        assert_eq!(figure.place((0.0, 0.0)), (FRAME.0, FRAME.3));
        assert_eq!(figure.place((50.0, 100.0)), (FRAME.2, FRAME.1));
    }

    #[test]
    fn long_legends_count_the_omitted_entries() {
        let svg = example(15).svg();
        assert!(svg.contains("and 3 more"), "{svg}");
        let looks = example(15).looks().iter().map(|(_, look)| *look).collect::<Vec<_>>();
        assert_eq!(looks, (0..15).collect::<Vec<_>>(), "no two look the same");
    }
}
