//! What the person at the terminal sees.

use anstream::println;
use owo_colors::OwoColorize;

pub fn story(title: &str) {
    println!("\n{}", title.bold().underline());
}

pub fn step(number: usize, title: &str) {
    println!("\n{} {}", format!("{number}.").bold().cyan(), title.bold());
}

pub fn say(text: &str) {
    println!("  {}", text.dimmed());
}

pub fn command(text: &str) {
    println!("{} {}", "$".green().bold(), text.bold());
}

pub fn output(text: &str) {
    if !text.is_empty() {
        println!("{}", text.trim_end());
    }
}

pub fn differs(line: usize, message: &str) {
    println!("{} line {line}\n{message}", "✘ differs from the story,".red().bold());
}

pub fn verdict(verdict: &Result<String, String>) {
    match verdict {
        Ok(text) => println!("\n{}", text.green().bold()),
        Err(text) => println!("\n{}", text.red().bold()),
    }
}

pub fn traffic(text: &str) {
    println!("{} {text}", "~".magenta().bold());
}
