"""Tables in, figures and pages out."""
