"""What sweep, plan, submit and task share: stages run one after the other, in a folder."""
