"""The known porting mistakes, as changes made from outside."""
